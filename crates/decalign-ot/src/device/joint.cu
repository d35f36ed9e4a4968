// A problem of up to four marginals and costs of their pairs as one table of weights and one of joint costs, and gradients of
// these back to what they were made of.
//
// EDGES pairs, that of cost e is (FROM(e), TO(e)); without any the first cost is the joint one. Bit n of `batched` says that input n
// (marginals, then costs) has a row for each problem of the batch.

#define COSTS (EDGES == 0u ? 1u : EDGES)

DEVICE uint FROM(uint e) { return e == 0 ? A0 : e == 1 ? A1 : e == 2 ? A2 : e == 3 ? A3 : e == 4 ? A4 : A5; }
DEVICE uint TO(uint e) { return e == 0 ? B0 : e == 1 ? B1 : e == 2 ? B2 : e == 3 ? B3 : e == 4 ? B4 : B5; }

// A cell's point of marginal k.
DEVICE uint coordinate(uint k, uint cell) { return cell / INNER(k) % SIZE(k); }

// Numbers of input n in one problem.
DEVICE uint COUNT(uint n) { return n < M ? SIZE(n) : EDGES == 0u ? CELLS : SIZE(FROM(n - M)) * SIZE(TO(n - M)); }

KERNEL(joint, INPUT(0, REAL, m0), INPUT(1, REAL, m1), INPUT(2, REAL, m2), INPUT(3, REAL, m3), INPUT(4, REAL, c0), INPUT(5, REAL, c1),
       INPUT(6, REAL, c2), INPUT(7, REAL, c3), INPUT(8, REAL, c4), INPUT(9, REAL, c5), OUTPUT(10, REAL, weights), OUTPUT(11, REAL, cost),
       VALUE(12, uint, batch), VALUE(13, uint, batched)) {
  const ulong at = (ulong)GROUP * LANES + LANE, b = at / (POINTS + CELLS);
  const uint t = (uint)(at % (POINTS + CELLS));
  if (b >= batch) return;
  if (t < POINTS) {
    UNROLL for (uint m = 0u; m < M; m++) {
      if (t < START(m) || t >= START(m) + SIZE(m)) continue;
      GLOBAL(const REAL) x = m == 0u ? m0 : m == 1u ? m1 : m == 2u ? m2 : m3;
      weights[b * POINTS + t] = x[((batched >> m & 1u) != 0u ? b * SIZE(m) : 0u) + (t - START(m))];
    }
    return;
  }
  const uint cell = t - POINTS;
  REAL sum = 0;
  UNROLL for (uint e = 0u; e < COSTS; e++) {
    GLOBAL(const REAL) x = e == 0u ? c0 : e == 1u ? c1 : e == 2u ? c2 : e == 3u ? c3 : e == 4u ? c4 : c5;
    const uint i = EDGES == 0u ? cell : coordinate(FROM(e), cell) * SIZE(TO(e)) + coordinate(TO(e), cell);
    sum += x[((batched >> (M + e) & 1u) != 0u ? b * COUNT(M + e) : 0u) + i];
  }
  cost[b * CELLS + cell] = sum;
}

// Of one problem, what a number of input n gets.
DEVICE REAL pulled(GLOBAL(const REAL) weights, GLOBAL(const REAL) cost, uint n, uint i) {
  if (n < M) return weights[START(n) + i];
  if (EDGES == 0u) return cost[i];
  const uint a = FROM(n - M), b = TO(n - M);
  const uint first = i / SIZE(b) * INNER(a) + i % SIZE(b) * INNER(b);
  REAL sum = 0;
  for (uint r = 0u; r < CELLS / (SIZE(a) * SIZE(b)); r++) {
    uint cell = first, rest = r;
    UNROLL for (uint back = 0u; back < M; back++) {
      const uint k = M - 1u - back;
      if (k == a || k == b) continue;
      cell += rest % SIZE(k) * INNER(k);
      rest /= SIZE(k);
    }
    sum += cost[cell];
  }
  return sum;
}

// The gradients of all inputs, one behind the other: slopes of weights and of joint costs, times the gradient of each problem's result.
KERNEL(joint_back, INPUT(0, REAL, weights), INPUT(1, REAL, cost), INPUT(2, REAL, outer), OUTPUT(3, REAL, all), VALUE(4, uint, batch),
       VALUE(5, uint, batched)) {
  const ulong at = (ulong)GROUP * LANES + LANE;
  ulong first = 0;
  UNROLL for (uint n = 0u; n < M + COSTS; n++) {
    const bool rows = (batched >> n & 1u) != 0u;
    const ulong count = (ulong)COUNT(n) * (rows ? batch : 1u);
    if (at >= first && at < first + count) {
      const uint i = (uint)((at - first) % COUNT(n));
      const ulong row = (at - first) / COUNT(n), last = rows ? row + 1u : batch;
      REAL sum = 0;
      for (ulong b = row; b < last; b++) sum = fma(outer[b], pulled(weights + b * POINTS, cost + b * CELLS, n, i), sum);
      all[at] = sum;
    }
    first += count;
  }
}
