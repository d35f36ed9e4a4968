// A group has a tile of rows and a share of the columns; shares meet in a launch of their own, in order.

// The tiles of columns of a share: from `*tile` to before `*end`.
DEVICE void share_of(uint m, uint shares, uint share, LOCAL(uint) tile, LOCAL(uint) end) {
  const uint tiles = (m + SIDE - 1u) / SIDE, each = (tiles + shares - 1u) / shares;
  *tile = least(share * each, tiles);
  *end = least(*tile + each, tiles);
}
