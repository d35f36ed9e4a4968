// The gradient of what is asked of a plan whose cells are 2^(h_i + h_j + <x_i, y_j>) (points.cu), in the same tiles.

// parts[share] (n, width) = P y of every row, for coordinates from block * COORDINATES, and with the first block the sums of rows.
//
// The weights of a tile go through shared memory 16 columns at a time, with these columns' coordinates.
#define COORDINATES 64u
KERNEL(backward, INPUT(0, REAL, x), INPUT(1, REAL, y), INPUT(2, REAL, h_x), INPUT(3, REAL, h_y), OUTPUT(4, REAL, parts),
       OUTPUT(5, REAL, part_masses), VALUE(6, uint, n), VALUE(7, uint, m), VALUE(8, uint, width), VALUE(9, uint, shares),
       VALUE(10, uint, blocks)) {
  SHARED(REAL, x_table, PAIR_ROOM);
  SHARED(REAL, y_table, PAIR_ROOM);
  SHARED(REAL, of_rows, SIDE);
  SHARED(REAL, of_columns, 2 * SIDE);
  const uint start = GROUP % blocks * COORDINATES, share = GROUP / blocks % shares, first = GROUP / blocks / shares * SIDE;
  uint tile, end, half_ = 0u;
  share_of(m, shares, share, &tile, &end);
  if (LANE < SIDE) of_rows[LANE] = first + LANE < n ? h_x[first + LANE] : LOWEST;
  REAL sums[EACH * 4u], masses[EACH];
  UNROLL for (uint a = 0u; a < EACH; a++) {
    masses[a] = 0;
    UNROLL for (uint k = 0u; k < 4u; k++) sums[a * 4u + k] = 0;
  }
  SERIAL for (; tile < end; tile++) {
    REAL cells[EACH * EACH];
    if (LANE < SIDE) {
      const uint j = tile * SIDE + LANE;
      of_columns[half_ + LANE] = j < m ? h_y[j] : LOWEST;
    }
    pair_products(x, first, n, y, tile * SIDE, m, width, x_table, y_table, LANE, cells);
    UNROLL for (uint b = 0u; b < EACH; b++) {
      const REAL h = of_columns[half_ + column_of(LANE, b)];
      BARRIER();
      UNROLL for (uint a = 0u; a < EACH; a++) {
        const REAL weight = exp2_normal(of_rows[row_of(LANE, a)] + h + cells[a * EACH + b]);
        masses[a] += weight;
        x_table[LANE % 16u * SIDE_PITCH + row_of(LANE, a)] = weight;
      }
      UNROLL for (uint i = 0u; i < 16u * COORDINATES / LANES; i++) {
        const uint at = LANE + i * LANES, line = at / COORDINATES, k = start + at % COORDINATES;
        const uint j = tile * SIDE + column_of(line, b);
        y_table[at] = j < m && k < width ? y[(ulong)j * width + k] : (REAL)0;
      }
      BARRIER();
      SERIAL for (uint line = 0u; line < 16u; line++) {
        REAL weights[EACH], coordinates[4];
        UNROLL for (uint a = 0u; a < EACH; a++) weights[a] = x_table[line * SIDE_PITCH + row_of(LANE, a)];
        UNROLL for (uint k = 0u; k < 4u; k++) coordinates[k] = y_table[line * COORDINATES + LANE % 16u * 4u + k];
        UNROLL for (uint a = 0u; a < EACH; a++) {
          UNROLL for (uint k = 0u; k < 4u; k++) sums[a * 4u + k] = fma(weights[a], coordinates[k], sums[a * 4u + k]);
        }
      }
    }
    half_ = SIDE - half_;
  }
  UNROLL for (uint a = 0u; a < EACH; a++) {
    const REAL mass = row_sum(masses[a]);
    const uint i = first + row_of(LANE, a);
    if (i < n) {
      if (LANE % 16u == 0u && start == 0u) part_masses[(ulong)share * n + i] = mass;
      UNROLL for (uint k = 0u; k < 4u; k++) {
        const uint at = start + LANE % 16u * 4u + k;
        if (at < width) parts[((ulong)share * n + i) * width + at] = sums[a * 4u + k];
      }
    }
  }
}

// Slopes of <P, C> by point: factor * (x_i sum_j P_ij - sum_j P_ij y_j), the shares in order.
KERNEL(slopes, INPUT(0, REAL, x), INPUT(1, REAL, parts), INPUT(2, REAL, part_masses), INPUT(3, REAL, outer), OUTPUT(4, REAL, d_x),
       VALUE(5, uint, n), VALUE(6, uint, width), VALUE(7, uint, shares), VALUE(8, REAL, factor)) {
  const ulong cell = (ulong)GROUP * LANES + LANE, cells = (ulong)n * width;
  if (cell < cells) {
    REAL sum = 0, mass = 0;
    for (uint s = 0u; s < shares; s++) {
      sum += parts[s * cells + cell];
      mass += part_masses[(ulong)s * n + cell / width];
    }
    d_x[cell] = outer[0] * factor * (x[cell] * mass - sum);
  }
}
