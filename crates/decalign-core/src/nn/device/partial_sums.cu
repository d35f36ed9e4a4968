// Adds up, in order, the partial sums that groups computed for up to six tables: sums[j] = sum_c partials[c][j] over `count` rows of `width`
// numbers. `groups` is the number of groups a table.

KERNEL(add_partial_sums, INPUT(0, REAL, p0), INPUT(1, REAL, p1), INPUT(2, REAL, p2), INPUT(3, REAL, p3), INPUT(4, REAL, p4), INPUT(5, REAL, p5),
       INOUT(6, REAL, y0), INOUT(7, REAL, y1), INOUT(8, REAL, y2), INOUT(9, REAL, y3), INOUT(10, REAL, y4), INOUT(11, REAL, y5),
       VALUE(12, uint, count), VALUE(13, uint, width), VALUE(14, uint, groups)) {
  const uint j = GROUP % groups * LANES + LANE;
  if (j >= width) return;
  GLOBAL(const REAL) partials = PICK_6(GROUP / groups, p);
  GLOBAL(REAL) sums = PICK_6(GROUP / groups, y);
  REAL sum = 0;
  for (uint c = 0u; c < count; c++) sum += partials[(ulong)c * width + j];
  sums[j] = sum;
}
