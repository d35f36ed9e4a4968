// What groups found in pieces, put together in order, of up to six tables: sums[j] = the sum of number j of `count` pieces, of `width` numbers each.
// `groups` are those of a table.

#define PICKED(k, of) (k) == 0u ? of##0 : (k) == 1u ? of##1 : (k) == 2u ? of##2 : (k) == 3u ? of##3 : (k) == 4u ? of##4 : of##5

KERNEL(add_pieces, INPUT(0, REAL, p0), INPUT(1, REAL, p1), INPUT(2, REAL, p2), INPUT(3, REAL, p3), INPUT(4, REAL, p4), INPUT(5, REAL, p5),
       INOUT(6, REAL, y0), INOUT(7, REAL, y1), INOUT(8, REAL, y2), INOUT(9, REAL, y3), INOUT(10, REAL, y4), INOUT(11, REAL, y5),
       VALUE(12, uint, count), VALUE(13, uint, width), VALUE(14, uint, groups)) {
  const uint j = GROUP % groups * LANES + LANE;
  if (j >= width) return;
  GLOBAL(const REAL) pieces = PICKED(GROUP / groups, p);
  GLOBAL(REAL) sums = PICKED(GROUP / groups, y);
  REAL sum = 0;
  for (uint c = 0u; c < count; c++) sum += pieces[(ulong)c * width + j];
  sums[j] = sum;
}
