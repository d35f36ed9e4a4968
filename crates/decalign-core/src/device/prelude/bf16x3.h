// Inner products of all pairs of rows of two tables of f32, a square tile at a time, on tensor cores: pairs.h for tables in three
// 16-bit parts each (after mma.h, of bfloat16).
//
// A number is high + middle + low, exactly but near the ends of f32: 24 bits in three times 8. Of the nine products of parts the three smallest are below
// 2^-24 of the whole and left out; the others are added up in 32 bits from the smallest on, SLICE_WIDTH coordinates at a time, and
// these sums to the whole as f32's are. So errors are those of f32 (Henry, Tang and Heinecke, 2019).
//
// A table lies in tiles of SIDE rows, each of SLICES slices, each of three parts of SIDE rows by SLICE_WIDTH coordinates as shared
// memory holds them: what is copied is one piece. A group of 8 warps keeps a tile of rows there, and columns come by.

// Two groups a multiprocessor: while one puts together what it has, the other multiplies.
#undef RESIDENT
#define RESIDENT 2

#define SIDE 128u
#define SLICE_WIDTH 16u
#define PART (SIDE * SLICE_WIDTH)
#define SLICE (3u * PART)

// Rows and columns of the tile that a lane has, 32 and 64 of which belong to a warp. Rows are shared by 4 lanes of each of two warps.
#define OWN_ROWS 4u
#define OWN_COLUMNS 16u
#define TEAMS 2u
DEVICE uint row_of(uint lane, uint a) { return lane / 64u * 32u + a * 8u + lane % 32u / 4u; }
DEVICE uint column_of(uint lane, uint b) { return lane / 32u % 2u * 64u + b / 2u * 8u + lane % 4u * 2u + b % 2u; }
DEVICE uint team_of(uint lane) { return lane / 32u % 2u; }
DEVICE bool leads(uint lane) { return lane % 4u == 0u; }

// Where eight numbers of a row begin in a part: rows 4 to 7 of 8 have theirs exchanged, so that the 8 rows of a table are in 32 banks.
DEVICE uint place_of(uint row, uint eight) { return ((2u * row + eight) ^ (row / 4u % 2u)) * 8u; }

// The rows `first` to `end` of x as tile `tile` of `parts`; other rows are 0. All lanes of the group come to it.
DEVICE void split_tile(GLOBAL(const REAL) x, uint first, uint end, uint width, GLOBAL(HALF) parts, uint tile, uint lane) {
  for (uint i = lane; i < SIDE * SLICES * SLICE_WIDTH; i += LANES) {
    const uint row = i / (SLICES * SLICE_WIDTH), k = i % (SLICES * SLICE_WIDTH);
    const float all = first + row < end && k < width ? x[(ulong)(first + row) * width + k] : (REAL)0;
    const uint high = packed(all, 0.0f) & 0xffffu;
    const float rest = all - widened(high);
    const uint middle = packed(rest, 0.0f) & 0xffffu;
    const uint low = packed(rest - widened(middle), 0.0f) & 0xffffu;
    const ulong at = ((ulong)tile * SLICES + k / SLICE_WIDTH) * SLICE + place_of(row, k % SLICE_WIDTH / 8u) + k % 8u;
    parts[at] = (HALF)high;
    parts[at + PART] = (HALF)middle;
    parts[at + 2u * PART] = (HALF)low;
  }
}

// `count` slices of a table from number `slice` on to place `to`.
DEVICE void copy_slices(GLOBAL(const HALF) x, uint slice, uint count, SHARED_POINTER(HALF) room, uint to, uint lane) {
  const ulong at = (ulong)slice * SLICE + lane * 8u;
  UNROLL for (uint i = 0u; i < count * SLICE / 8u; i += LANES) copy_later(x, at + i * 8u, room, to * SLICE + lane * 8u + i * 8u);
}

// Adds to the sums of a tile the products of a slice at `rows` and one at `columns`.
DEVICE void add_slice(SHARED_POINTER(const HALF) room, uint rows, uint columns, LOCAL(REAL) cells) {
  uint a[2][3][4];
  UNROLL for (uint m = 0u; m < 2u; m++) {
    UNROLL for (uint part = 0u; part < 3u; part++) load_tables(room, rows + part * PART + m * 16u * SLICE_WIDTH, a[m][part]);
  }
  UNROLL for (uint two = 0u; two < OWN_COLUMNS / 4u; two++) {
    uint b[3][4];
    UNROLL for (uint part = 0u; part < 3u; part++) load_tables(room, columns + part * PART + two * 16u * SLICE_WIDTH, b[part]);
    UNROLL for (uint n = 0u; n < 2u; n++) {
      float sums[2][4];
      UNROLL for (uint c = 0u; c < 8u; c++) sums[c / 4u][c % 4u] = 0.0f;
      // Parts of both sides whose numbers add up to 2, to 1, to 0.
      UNROLL for (uint order = 0u; order < 3u; order++) {
        UNROLL for (uint part = 0u; part < 3u - order; part++) {
          UNROLL for (uint m = 0u; m < 2u; m++)
            multiply_add(sums[m], a[m][part], b[2u - order - part][2u * n], b[2u - order - part][2u * n + 1u]);
        }
      }
      UNROLL for (uint c = 0u; c < 8u; c++) cells[c / 2u * OWN_COLUMNS + 4u * two + 2u * n + c % 2u] += sums[c / 4u][c % 4u];
    }
  }
}

// Adds the sums of a tile and one of the columns that came by to `cells`; `next` is the slice that the columns go on with, and `stage` where those
// before it lie. All lanes of the group come to it.
DEVICE void tile_sums(GLOBAL(const HALF) y, LOCAL(uint) next, uint end, SHARED_POINTER(HALF) room, LOCAL(uint) stage, uint lane,
                      LOCAL(REAL) cells) {
  const uint in_warp = lane % 32u, mine = place_of(lane / 64u * 32u + in_warp % 16u, in_warp / 16u);
  const uint other = place_of(lane / 32u % 2u * 64u + in_warp / 16u * 8u + in_warp % 8u, in_warp / 8u % 2u);
  SERIAL for (uint first = 0u; first < SLICES; first += AT_A_TIME) {
    // What comes next takes the place of what all have left behind.
    wait_for_copies();
    BARRIER();
    const uint there = *stage;
    *stage = 2u * SLICES + AT_A_TIME - there;
    if (*next < end) copy_slices(y, *next, AT_A_TIME, room, *stage, lane);
    *next += AT_A_TIME;
    SERIAL for (uint i = 0u; i < AT_A_TIME; i++) add_slice(room, (first + i) * SLICE + mine, (there + i) * SLICE + other, cells);
  }
}

// As in pairs.h: what a kernel that goes through tiles declares, starts with, and asks for every tile from `tile` to `end` in order.
#define COPY_NUMBER copy_number_later
#define AT_FIRST(offset) (offset)
#define AT_LAST(sum, offset) (sum)
#define TABLE HALF
#define PAIR_TABLES SHARED_LARGE(HALF, pair_room, (SLICES + 2u * AT_A_TIME) * SLICE)
#define START_TILES(x, x_tile, y, tile, end)                                                         \
  uint pairs_next = (tile) * SLICES, pairs_stage = SLICES;                                           \
  const uint pairs_end = (end) * SLICES;                                                             \
  copy_slices(x, (x_tile) * SLICES, SLICES, pair_room, 0u, LANE);                                    \
  if (pairs_next < pairs_end) copy_slices(y, pairs_next, AT_A_TIME, pair_room, pairs_stage, LANE);   \
  pairs_next += AT_A_TIME
#define TILE_PRODUCTS(x, first, n, y, second, m, width, cells) tile_sums(y, &pairs_next, pairs_end, pair_room, &pairs_stage, LANE, cells)
