// A table of n rows in parts, a group a tile.
KERNEL(split, INPUT(0, REAL, x), OUTPUT(1, HALF, parts), VALUE(2, uint, n), VALUE(3, uint, width)) {
  split_tile(x, GROUP * SIDE, n, width, parts, GROUP, LANE);
}
