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
