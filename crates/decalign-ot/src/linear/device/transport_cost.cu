// What is asked of a plan whose cells are 2^(h_i + h_j + <x_i, y_j>) (points.cu), in the same tiles.

// parts[share, team] = (sum of the plan, of the plan times the cost in base 2) of every row.
KERNEL(transport_cost, INPUT(0, TABLE, x), INPUT(1, TABLE, y), INPUT(2, REAL, h_x), INPUT(3, REAL, h_y), INPUT(4, REAL, x_halves),
       INPUT(5, REAL, y_halves), OUTPUT(6, REAL, parts), VALUE(7, uint, n), VALUE(8, uint, m), VALUE(9, uint, width),
       VALUE(10, uint, shares)) {
  PAIR_TABLES;
  SHARED(REAL, of_rows, 2 * SIDE);
  SHARED(REAL, of_columns, 4 * SIDE);
  const uint first = GROUP / shares * SIDE, share = GROUP % shares;
  uint tile, end, half_ = 0u;
  share_of(m, shares, share, &tile, &end);
  if (LANE < SIDE) {
    const uint i = first + LANE;
    of_rows[LANE] = i < n ? h_x[i] : LOWEST;
    of_rows[SIDE + LANE] = i < n ? x_halves[i] : (REAL)0;
  }
  REAL masses[OWN_ROWS], paid[OWN_ROWS];
  UNROLL for (uint a = 0u; a < OWN_ROWS; a++) {
    masses[a] = 0;
    paid[a] = 0;
  }
  START_TILES(x, GROUP / shares, y, tile, end);
  SERIAL for (; tile < end; tile++) {
    REAL cells[OWN_ROWS * OWN_COLUMNS];
    if (LANE < SIDE) {
      const uint j = tile * SIDE + LANE;
      of_columns[half_ + LANE] = j < m ? h_y[j] : LOWEST;
      of_columns[half_ + SIDE + LANE] = j < m ? y_halves[j] : (REAL)0;
    }
    UNROLL for (uint c = 0u; c < OWN_ROWS * OWN_COLUMNS; c++) cells[c] = 0;
    TILE_PRODUCTS(x, first, n, y, tile * SIDE, m, width, cells);
    UNROLL for (uint b = 0u; b < OWN_COLUMNS; b++) {
      const REAL h = of_columns[half_ + column_of(LANE, b)], square = of_columns[half_ + SIDE + column_of(LANE, b)];
      UNROLL for (uint a = 0u; a < OWN_ROWS; a++) {
        const REAL product = cells[a * OWN_COLUMNS + b];
        const REAL weight = exp2_normal(of_rows[row_of(LANE, a)] + h + product);
        masses[a] += weight;
        paid[a] = fma(weight, of_rows[SIDE + row_of(LANE, a)] + square - product, paid[a]);
      }
    }
    half_ = 2u * SIDE - half_;
  }
  const ulong part = (ulong)(share * TEAMS + team_of(LANE)) * 2u;
  UNROLL for (uint a = 0u; a < OWN_ROWS; a++) {
    const REAL mass = row_sum(masses[a]), cost = row_sum(paid[a]);
    const uint i = first + row_of(LANE, a);
    if (leads(LANE) && i < n) {
      parts[part * n + i] = mass;
      parts[(part + 1u) * n + i] = cost;
    }
  }
}
