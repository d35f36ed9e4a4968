// Squared Euclidean costs between many points, never stored, in tiles: sweep.rs on a device.
//
// Points are centred and scaled by the square root of 2 / (eps ln 2). With half a point's square taken off its potential,
// h = F - |x|^2 / 2, a cell of the plan is 2^(h_i + h_j + <x_i, y_j>), and half a sweep is h_i = log2 a_i - log2 sum_j 2^(h_j + <x_i, y_j>).

// What potentials begin with: h of f = 0, or of no weight LOWEST.
KERNEL(begin, INPUT(0, REAL, weights), INPUT(1, REAL, halves), OUTPUT(2, REAL, h), VALUE(3, uint, n)) {
  const uint i = GROUP * LANES + LANE;
  if (i < n) h[i] = weights[i] > 0 ? log2(weights[i]) - halves[i] : LOWEST;
}

// The same potentials at an epsilon `ratio` times smaller, whose points are larger by its root.
KERNEL(cool, INPUT(0, REAL, weights), INPUT(1, REAL, h), OUTPUT(2, REAL, next), VALUE(3, uint, n), VALUE(4, REAL, ratio)) {
  const uint i = GROUP * LANES + LANE;
  if (i < n) next[i] = weights[i] > 0 ? fma(h[i] - log2(weights[i]), ratio, log2(weights[i])) : LOWEST;
}

// parts[share, team] = (an exponent, sum of powers of 2 relative to it) of every row.
//
// The exponent is the largest of the first tile, and a later one where sums would leave the numbers otherwise: looking for the largest of every
// tile would be a third of what follows the products.
#define LARGE ((REAL)1e18)

// Two groups a multiprocessor, in 128 registers each.
#if REAL_BITS == 32
#undef RESIDENT
#define RESIDENT 2
#endif
KERNEL(scan, INPUT(0, TABLE, x), INPUT(1, TABLE, y), INPUT(2, REAL, h), OUTPUT(3, REAL, parts), VALUE(4, uint, n), VALUE(5, uint, m),
       VALUE(6, uint, width), VALUE(7, uint, shares)) {
  PAIR_TABLES;
  SHARED(REAL, of_columns, 3 * SIDE);
  const uint first = GROUP / shares * SIDE, share = GROUP % shares;
  uint tile, end, third = 0u;
  share_of(m, shares, share, &tile, &end);
  REAL base[OWN_ROWS], sums[OWN_ROWS];
  UNROLL for (uint a = 0u; a < OWN_ROWS; a++) base[a] = sums[a] = 0;
  for (uint i = LANE; i < 2u * SIDE; i += LANES) of_columns[i] = tile * SIDE + i < m ? h[tile * SIDE + i] : LOWEST;
  START_TILES(x, GROUP / shares, y, tile, end);
  BARRIER();
  SERIAL for (; tile < end; tile++) {
    REAL cells[OWN_ROWS * OWN_COLUMNS];
    UNROLL for (uint b = 0u; b < OWN_COLUMNS; b++) {
      const REAL term = of_columns[third + column_of(LANE, b)];
      UNROLL for (uint a = 0u; a < OWN_ROWS; a++) cells[a * OWN_COLUMNS + b] = AT_FIRST(term - base[a]);
    }
    TILE_PRODUCTS(x, first, n, y, tile * SIDE, m, width, cells);
    if (LANE < SIDE && tile + 2u < end) {
      const uint j = (tile + 2u) * SIDE + LANE, to = (third == 0u ? 2u * SIDE : third - SIDE) + LANE;
      if (j < m) COPY_NUMBER(h, j, of_columns, to);
      else of_columns[to] = LOWEST;
    }
    bool far = false;
    REAL next[OWN_ROWS];
    UNROLL for (uint a = 0u; a < OWN_ROWS; a++) {
      next[a] = sums[a];
      UNROLL for (uint b = 0u; b < OWN_COLUMNS; b++) {
        const uint c = a * OWN_COLUMNS + b;
        cells[c] = AT_LAST(cells[c], of_columns[third + column_of(LANE, b)] - base[a]);
        next[a] += exp2_normal(cells[c]);
      }
      far = far || sums[a] == 0 || !(next[a] < LARGE);
    }
    third = third == 2u * SIDE ? 0u : third + SIDE;
    if (!WARP_ANY(far)) {
      UNROLL for (uint a = 0u; a < OWN_ROWS; a++) sums[a] = next[a];
      continue;
    }
    UNROLL for (uint a = 0u; a < OWN_ROWS; a++) {
      REAL most = sums[a] == 0 ? LOWEST * 4 : (REAL)0;
      UNROLL for (uint b = 0u; b < OWN_COLUMNS; b++) most = fmax(most, cells[a * OWN_COLUMNS + b]);
      // Columns without weight alone say nothing.
      if (most < LOWEST * (REAL)0.5) continue;
      REAL sum = sums[a] == 0 ? (REAL)0 : sums[a] * exp2_normal(-most);
      UNROLL for (uint b = 0u; b < OWN_COLUMNS; b++) sum += exp2_normal(cells[a * OWN_COLUMNS + b] - most);
      base[a] += most;
      sums[a] = sum;
    }
  }
  const ulong part = (ulong)(share * TEAMS + team_of(LANE)) * 2u;
  UNROLL for (uint a = 0u; a < OWN_ROWS; a++) {
    const REAL own = sums[a] == 0 ? LOWEST * 4 : base[a], most = row_max(own), sum = row_sum(sums[a] * exp2_normal(own - most));
    const uint i = first + row_of(LANE, a);
    if (leads(LANE) && i < n) {
      parts[part * n + i] = most;
      parts[(part + 1u) * n + i] = sum;
    }
  }
}

// Puts the parts of `scan` together: the next potentials, and what the rows' sums were off with those before, a sum a group.
KERNEL(meet, INPUT(0, REAL, parts), INPUT(1, REAL, weights), INPUT(2, REAL, h), OUTPUT(3, REAL, next), OUTPUT(4, REAL, errors),
       VALUE(5, uint, n), VALUE(6, uint, shares)) {
  SHARED(REAL, partial, WARPS);
  const uint i = GROUP * LANES + LANE;
  REAL error = 0;
  if (i < n) {
    REAL most = LOWEST * 4, sum = 0;
    for (uint s = 0u; s < shares; s++) most = fmax(most, parts[(ulong)s * 2u * n + i]);
    for (uint s = 0u; s < shares; s++)
      sum += parts[((ulong)s * 2u + 1u) * n + i] * exp2_normal(parts[(ulong)s * 2u * n + i] - most);
    const REAL log = most + log2(sum), weight = weights[i];
    if (weight > 0) error = fabs(exp2(h[i] + log) - weight);
    next[i] = weight > 0 ? log2(weight) - log : LOWEST;
  }
  error = group_sum(error, partial, LANE);
  if (LANE == 0u) errors[GROUP] = error;
}

// One group: report (value, <P, C>, marginal error, sweeps), and by row and by column the slopes of the value, F or G, and the sums of
// the plan. Columns are as their weights: they were scaled last, and `columns_error` says how well where it was looked at.
KERNEL(finish, INPUT(0, REAL, parts), INPUT(1, REAL, weights_a), INPUT(2, REAL, weights_b), INPUT(3, REAL, h_x), INPUT(4, REAL, h_y),
       INPUT(5, REAL, x_halves), INPUT(6, REAL, y_halves), INPUT(7, REAL, columns_error), OUTPUT(8, REAL, report), OUTPUT(9, REAL, sides),
       OUTPUT(10, REAL, off), VALUE(11, uint, n), VALUE(12, uint, m), VALUE(13, uint, shares), VALUE(14, uint, looked),
       VALUE(15, REAL, epsilon), VALUE(16, uint, sweeps)) {
  SHARED(REAL, partial, WARPS);
  const REAL unit = epsilon * LN2;
  const ulong points = (ulong)n + m;
  REAL mass = 0, moved = 0, paid = 0, error = 0, value = 0, mean_a = 0, mean_b = 0;
  for (uint i = LANE; i < n; i += LANES) mass += weights_a[i];
  mass = group_sum(mass, partial, LANE);
  for (uint i = LANE; i < n; i += LANES) {
    const REAL weight = weights_a[i];
    REAL row = 0, cost = 0, slope = 0, scaled = LOWEST;
    for (uint s = 0u; s < shares; s++) {
      row += parts[(ulong)s * 2u * n + i];
      cost += parts[((ulong)s * 2u + 1u) * n + i];
    }
    if (weight > 0) {
      scaled = h_x[i] + x_halves[i];
      const REAL potential = (scaled - log2(weight)) * unit;
      value = fma(potential, weight, value);
      slope = potential + epsilon * (mass - row / weight);
      mean_a = fma(slope, weight, mean_a);
    }
    moved += row;
    paid += cost;
    error += fabs(row - weight);
    sides[i] = slope;
    sides[points + i] = scaled;
    sides[2u * points + i] = row;
  }
  for (uint j = LANE; j < m; j += LANES) {
    const REAL weight = weights_b[j];
    REAL slope = 0, scaled = LOWEST;
    if (weight > 0) {
      scaled = h_y[j] + y_halves[j];
      slope = (scaled - log2(weight)) * unit;
      value = fma(slope, weight, value);
      mean_b = fma(slope, weight, mean_b);
    }
    sides[n + j] = slope;
    sides[points + n + j] = scaled;
    sides[2u * points + n + j] = weight;
  }
  moved = group_sum(moved, partial, LANE);
  paid = group_sum(paid, partial, LANE);
  error = group_sum(error, partial, LANE);
  value = group_sum(value, partial, LANE);
  mean_a = group_sum(mean_a, partial, LANE) / mass;
  mean_b = group_sum(mean_b, partial, LANE) / mass;
  for (uint i = LANE; i < n; i += LANES)
    if (weights_a[i] > 0) sides[i] -= mean_a;
  for (uint j = LANE; j < m; j += LANES)
    if (weights_b[j] > 0) sides[n + j] -= mean_b;
  if (LANE == 0u) {
    REAL other = 0;
    for (uint k = 0u; k < looked; k++) other += columns_error[k];
    report[0] = fma(epsilon, mass * mass - moved, value);
    report[1] = paid * unit;
    report[2] = larger(error, other);
    off[0] = larger(error, other);
    report[3] = (REAL)sweeps;
  }
}
