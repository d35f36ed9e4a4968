// Cells of a joint tensor in shared memory: M marginals of K0, K1, ..., LAST points, a group of lanes a problem.
// Rows have an odd pitch, so that a warp meets every bank whichever marginal it sums over.

#define PITCH (LAST | 1u)
#define ROOM (CELLS / LAST * PITCH)

DEVICE uint SIZE(uint m) {
  return m == 0 ? K0 : m == 1 ? K1 : m == 2 ? K2 : m == 3 ? K3 : m == 4 ? K4 : m == 5 ? K5 : m == 6 ? K6 : K7;
}

// Cells from one point of marginal m to the next.
DEVICE uint INNER(uint m) {
  uint inner = 1u;
  for (uint k = m + 1u; k < M; k++) inner *= SIZE(k);
  return inner;
}

// Where the points of marginal m begin among all of them.
DEVICE uint START(uint m) {
  uint start = 0u;
  for (uint k = 0u; k < m; k++) start += SIZE(k);
  return start;
}

// Cell t of those that have point i of marginal m.
DEVICE uint cell_of(uint m, uint i, uint t) {
  const uint inner = INNER(m);
  return (t / inner * SIZE(m) + i) * inner + t % inner;
}

// Where a cell lies.
DEVICE uint place_of(uint cell) { return cell / LAST * PITCH + cell % LAST; }

// Where a cell's point of marginal k is among all points.
DEVICE uint point_of(uint k, uint cell) { return START(k) + cell / INNER(k) % SIZE(k); }
