// The sum of COUNT tensors of n numbers, added up in their order.
#define ADD(k) if (COUNT > k##u) sum += x##k[i];

KERNEL(sum, INPUT(0, REAL, x0), INPUT(1, REAL, x1), INPUT(2, REAL, x2), INPUT(3, REAL, x3), INPUT(4, REAL, x4), INPUT(5, REAL, x5),
       INPUT(6, REAL, x6), INPUT(7, REAL, x7), OUTPUT(8, REAL, y), VALUE(9, ulong, n)) {
  const ulong i = (ulong)GROUP * LANES + LANE;
  if (i >= n) return;
  REAL sum = x0[i];
  ADD(1) ADD(2) ADD(3) ADD(4) ADD(5) ADD(6) ADD(7)
  y[i] = sum;
}

// y_k = a_k + b_k of up to four pairs of n numbers each; `groups` are those of a pair.
KERNEL(sum_pairs, INPUT(0, REAL, a0), INPUT(1, REAL, a1), INPUT(2, REAL, a2), INPUT(3, REAL, a3), INPUT(4, REAL, b0), INPUT(5, REAL, b1),
       INPUT(6, REAL, b2), INPUT(7, REAL, b3), OUTPUT(8, REAL, y0), OUTPUT(9, REAL, y1), OUTPUT(10, REAL, y2), OUTPUT(11, REAL, y3),
       VALUE(12, ulong, n), VALUE(13, uint, groups)) {
  const uint pair = GROUP / groups;
  const ulong i = (ulong)(GROUP % groups) * LANES + LANE;
  if (i >= n) return;
  GLOBAL(const REAL) a = PICK_4(pair, a);
  GLOBAL(const REAL) b = PICK_4(pair, b);
  GLOBAL(REAL) y = PICK_4(pair, y);
  y[i] = a[i] + b[i];
}
