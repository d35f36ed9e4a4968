// Inner products of all pairs of rows of two tables, a square tile at a time.
//
// A group of 16 x 16 lanes has a tile of SIDE x SIDE pairs: each lane EACH x EACH of them in registers. Coordinates go through
// shared memory DEPTH at a time, into one half of a table while the other half is read.

#define SIDE (16u * EACH)
#define SIDE_PITCH (SIDE + 4u)
#define PAIR_ROOM (2u * DEPTH * SIDE_PITCH)
// Numbers that a lane fetches for each step: side by side in one row.
#define FETCHED (SIDE * DEPTH / LANES)
#define LANES_OF_ROW (DEPTH / FETCHED)

// Neighbours that a lane reads as a vector.
#define NEXT (EACH < 4u ? EACH : 4u)

// Which row and which column of the tile cell (a, b) of a lane is. The 16 lanes of a row are half a warp.
DEVICE uint row_of(uint lane, uint a) { return a / NEXT * (16u * NEXT) + lane / 16u * NEXT + a % NEXT; }
DEVICE uint column_of(uint lane, uint b) { return b / NEXT * (16u * NEXT) + lane % 16u * NEXT + b % NEXT; }

// Numbers `at` and on of a row, those from `left` on 0. With ALIGNED rows are whole vectors.
DEVICE void fetch_step(GLOBAL(const REAL) x, ulong at, uint left, LOCAL(REAL) next) {
#if ALIGNED
  UNROLL for (uint i = 0u; i < FETCHED; i++) next[i] = 0;
  if (left > 0u) { LOAD_VECTOR(x, at, FETCHED, next) }
#else
  UNROLL for (uint i = 0u; i < FETCHED; i++) next[i] = i < left ? x[at + i] : (REAL)0;
#endif
}

DEVICE void store_step(LOCAL(const REAL) next, SHARED_POINTER(REAL) to) {
  UNROLL for (uint i = 0u; i < FETCHED; i++) to[i * SIDE_PITCH] = next[i];
}

// A function that adds up STEP(x number, y number, sum) over the coordinates of all pairs of rows of the tile at rows x_first and y_first,
// sums[a * EACH + b]; rows behind the end are zeros. All lanes of the group come to it; `x_table` and `y_table` are PAIR_ROOM numbers of
// shared memory each, and nothing else. Pointers take what is known of an index out of the loops.
#define PAIR_FUNCTION(name, STEP)                                                                                                  \
  DEVICE void name(GLOBAL(const REAL) x, uint x_first, uint x_count, GLOBAL(const REAL) y, uint y_first, uint y_count, uint width, \
                   SHARED_POINTER(REAL) x_table, SHARED_POINTER(REAL) y_table, uint lane, LOCAL(REAL) sums) {                      \
    REAL x_next[FETCHED], y_next[FETCHED];                                                                                         \
    const uint row = lane / LANES_OF_ROW, skip = lane % LANES_OF_ROW * FETCHED, to = skip * SIDE_PITCH + row;                      \
    const uint x_width = x_first + row < x_count ? width : 0u, y_width = y_first + row < y_count ? width : 0u;                     \
    ulong x_at = (ulong)(x_first + row) * width + skip, y_at = (ulong)(y_first + row) * width + skip;                              \
    UNROLL for (uint c = 0u; c < EACH * EACH; c++) sums[c] = 0;                                                                    \
    fetch_step(x, x_at, x_width > skip ? x_width - skip : 0u, x_next);                                                             \
    fetch_step(y, y_at, y_width > skip ? y_width - skip : 0u, y_next);                                                             \
    /* The tile before may still be read. */                                                                                       \
    BARRIER();                                                                                                                     \
    uint half_ = 0u;                                                                                                               \
    SERIAL for (uint start = 0u; start < width; start += DEPTH) {                                                                  \
      store_step(x_next, x_table + (half_ + to));                                                                                  \
      store_step(y_next, y_table + (half_ + to));                                                                                  \
      BARRIER();                                                                                                                   \
      const uint later = start + DEPTH + skip;                                                                                     \
      x_at += DEPTH;                                                                                                               \
      y_at += DEPTH;                                                                                                               \
      fetch_step(x, x_at, x_width > later ? x_width - later : 0u, x_next);                                                         \
      fetch_step(y, y_at, y_width > later ? y_width - later : 0u, y_next);                                                         \
      const SHARED_POINTER(REAL) u_at = x_table + (half_ + row_of(lane, 0u));                                                       \
      const SHARED_POINTER(REAL) v_at = y_table + (half_ + column_of(lane, 0u));                                                       \
      UNROLL for (uint k = 0u; k < DEPTH; k++) {                                                                                   \
        REAL u[EACH], v[EACH];                                                                                                     \
        UNROLL for (uint a = 0u; a < EACH; a++) u[a] = u_at[k * SIDE_PITCH + row_of(0u, a)];                               \
        UNROLL for (uint b = 0u; b < EACH; b++) v[b] = v_at[k * SIDE_PITCH + column_of(0u, b)];                               \
        UNROLL for (uint a = 0u; a < EACH; a++) {                                                                                  \
          UNROLL for (uint b = 0u; b < EACH; b++) sums[a * EACH + b] = STEP(u[a], v[b], sums[a * EACH + b]);                       \
        }                                                                                                                          \
      }                                                                                                                            \
      half_ = DEPTH * SIDE_PITCH - half_;                                                                                          \
    }                                                                                                                              \
  }

#define PRODUCT_STEP(u, v, sum) fma(u, v, sum)
PAIR_FUNCTION(pair_products, PRODUCT_STEP)

// How kernels that work in either kind of tile (bf16x3.h) ask for them: what they declare, start with, and want of every tile in order. What
// sums are off by goes in first where few numbers are added up, and last where many are. What COPY_NUMBER copies between tiles is there a tile later.
#define COPY_NUMBER(x, at, to, place) (to)[place] = (x)[at]
#define AT_FIRST(offset) ((REAL)0)
#define AT_LAST(sum, offset) ((sum) + (offset))
#define TABLE REAL
#define OWN_ROWS EACH
#define OWN_COLUMNS EACH
#define PAIR_TABLES SHARED(REAL, x_table, PAIR_ROOM); SHARED(REAL, y_table, PAIR_ROOM)
#define START_TILES(x, x_tile, y, tile, end)
#define TILE_PRODUCTS(x, first, n, y, second, m, width, cells) pair_products(x, first, n, y, second, m, width, x_table, y_table, LANE, cells)

// Teams of lanes that have the same rows of a tile; sums over rows are a team's.
#define TEAMS 1u
DEVICE uint team_of(uint lane) { return 0u; }
DEVICE bool leads(uint lane) { return lane % 16u == 0u; }

// Over the 16 lanes that share rows: every lane gets the result.
DEVICE REAL row_sum(REAL x) {
  UNROLL for (uint mask = 8u; mask > 0u; mask >>= 1) x += SHUFFLE_XOR(x, mask);
  return x;
}

DEVICE REAL row_max(REAL x) {
  UNROLL for (uint mask = 8u; mask > 0u; mask >>= 1) {
    const REAL other = SHUFFLE_XOR(x, mask);
    x = other > x ? other : x;
  }
  return x;
}
