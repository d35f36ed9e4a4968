// Two marginals of up to 32 points each, all sweeps of a problem in one launch, a warp a problem: sweep.rs on a device.
//
// Potentials count in base 2 with the weights folded in, F = f / (eps ln 2) + log2 a. A sweep in the log domain makes the kernel
// K = 2^(F + G - C / (eps ln 2)), whose sums are the weights; the sweeps after it only scale it, u = a / K v, v = b / K^T u, and
// where a scaling leaves a safe range all are taken into the potentials and the kernel is made anew (Schmitzer, 2019). Mild costs
// need no sweep in the log domain.
//
// Lane 8 r + c has the cells of rows 8 r + p and columns 8 q + c; lane i has what belongs to row i and to column i.

#define ROWS 8u
#define COLUMNS 4u
#define CELLS (ROWS * COLUMNS)

// Each lane gets one of the sums over lanes whose numbers differ by 0, unit, .. (2 half_ - 1) unit: that of its place among them.
DEVICE REAL shared_out(LOCAL(REAL) sums, const uint half_, const uint unit, uint lane) {
  UNROLL for (uint h = half_; h > 0u; h >>= 1) {
    const bool upper = (lane & (h * unit)) != 0u;
    UNROLL for (uint k = 0u; k < h; k++) {
      const REAL kept = upper ? sums[k + h] : sums[k], sent = upper ? sums[k] : sums[k + h];
      sums[k] = kept + SHUFFLE_XOR(sent, h * unit);
    }
  }
  return sums[0];
}

DEVICE REAL share_rows(LOCAL(REAL) sums, uint lane) { return shared_out(sums, ROWS / 2u, 1u, lane); }
DEVICE REAL share_columns(LOCAL(REAL) sums, uint lane) { return shared_out(sums, COLUMNS / 2u, 8u, lane); }

// What the lanes of this lane's rows and columns hold.
DEVICE void of_rows(REAL mine, uint lane, LOCAL(REAL) all) {
  UNROLL for (uint p = 0u; p < ROWS; p++) all[p] = SHUFFLE(mine, lane / 8u * 8u + p);
}

DEVICE void of_columns(REAL mine, uint lane, LOCAL(REAL) all) {
  UNROLL for (uint q = 0u; q < COLUMNS; q++) all[q] = SHUFFLE(mine, 8u * q + lane % 8u);
}

// (K v)_i and (K^T u)_j of the lane's row and column.
DEVICE REAL row_sum_of(LOCAL(REAL) cells, REAL v, uint lane) {
  REAL factors[COLUMNS], sums[ROWS];
  of_columns(v, lane, factors);
  UNROLL for (uint p = 0u; p < ROWS; p++) {
    sums[p] = cells[p * COLUMNS] * factors[0];
    UNROLL for (uint q = 1u; q < COLUMNS; q++) sums[p] = fma(cells[p * COLUMNS + q], factors[q], sums[p]);
  }
  return share_rows(sums, lane);
}

DEVICE REAL column_sum_of(LOCAL(REAL) cells, REAL u, uint lane) {
  REAL factors[ROWS], sums[COLUMNS];
  of_rows(u, lane, factors);
  UNROLL for (uint q = 0u; q < COLUMNS; q++) {
    sums[q] = cells[q] * factors[0];
    UNROLL for (uint p = 1u; p < ROWS; p++) sums[q] = fma(cells[p * COLUMNS + q], factors[p], sums[q]);
  }
  return share_columns(sums, lane);
}

// Where a cell (p, q) of a lane is in the table of costs; an odd pitch, so that a warp meets every bank.
#define PITCH 33u
DEVICE uint place_of(uint lane, uint p, uint q) { return (lane / 8u * 8u + p) * PITCH + 8u * q + lane % 8u; }

// log2 of the sums over j of 2^(G_j - C_ij), and over i of 2^(F_i - C_ij), of costs in base 2 when multiplied by `inverse`.
DEVICE REAL log_sum_of_row(SHARED_POINTER(REAL) cost, REAL inverse, REAL g, uint lane) {
  REAL factors[COLUMNS], most = 0, sums = 1;
  of_columns(g, lane, factors);
  SERIAL for (uint p = 0u; p < ROWS; p++) {
    REAL terms[COLUMNS], largest = LOWEST * 4, sum = 0;
    UNROLL for (uint q = 0u; q < COLUMNS; q++) {
      terms[q] = fma(-inverse, cost[place_of(lane, p, q)], factors[q]);
      largest = larger(largest, terms[q]);
    }
    UNROLL for (uint mask = 4u; mask > 0u; mask >>= 1) largest = larger(largest, SHUFFLE_XOR(largest, mask));
    UNROLL for (uint q = 0u; q < COLUMNS; q++) sum += exp2_normal(terms[q] - largest);
    UNROLL for (uint mask = 4u; mask > 0u; mask >>= 1) sum += SHUFFLE_XOR(sum, mask);
    if (lane % 8u == p) {
      most = largest;
      sums = sum;
    }
  }
  return most + log2(sums);
}

DEVICE REAL log_sum_of_column(SHARED_POINTER(REAL) cost, REAL inverse, REAL f, uint lane) {
  REAL factors[ROWS], most = 0, sums = 1;
  of_rows(f, lane, factors);
  SERIAL for (uint q = 0u; q < COLUMNS; q++) {
    REAL terms[ROWS], largest = LOWEST * 4, sum = 0;
    UNROLL for (uint p = 0u; p < ROWS; p++) {
      terms[p] = fma(-inverse, cost[place_of(lane, p, q)], factors[p]);
      largest = larger(largest, terms[p]);
    }
    UNROLL for (uint mask = 16u; mask > 4u; mask >>= 1) largest = larger(largest, SHUFFLE_XOR(largest, mask));
    UNROLL for (uint p = 0u; p < ROWS; p++) sum += exp2_normal(terms[p] - largest);
    UNROLL for (uint mask = 16u; mask > 4u; mask >>= 1) sum += SHUFFLE_XOR(sum, mask);
    if (lane / 8u == q) {
      most = largest;
      sums = sum;
    }
  }
  return most + log2(sums);
}

// One sweep in the log domain: F, then G.
DEVICE void log_sweep(SHARED_POINTER(REAL) cost, REAL inverse, REAL log_a, REAL log_b, uint lane, LOCAL(REAL) f, LOCAL(REAL) g) {
  const REAL row = log_sum_of_row(cost, inverse, *g, lane);
  *f = log_a > LOWEST ? log_a - row : LOWEST;
  const REAL column = log_sum_of_column(cost, inverse, *f, lane);
  *g = log_b > LOWEST ? log_b - column : LOWEST;
}

DEVICE bool safe(REAL scaling) { return scaling > (REAL)1e-9 && scaling < (REAL)1e9; }

// F at another epsilon.
DEVICE REAL rescaled(REAL f, REAL log_a, REAL ratio) { return log_a > LOWEST ? fma(f - log_a, ratio, log_a) : LOWEST; }

// `report` is (value, <P, C>, marginal error, sweeps) of every problem; `sides` (3, n + m) the slopes of the value by weight, F and G,
// and the sums of the plan. `a_step`, `b_step` and `c_step` are 0 where all problems have the same.
KERNEL(solve, INPUT(0, REAL, given_a), INPUT(1, REAL, given_b), INPUT(2, REAL, given_cost), OUTPUT(3, REAL, report),
       OUTPUT(4, REAL, sides), OUTPUT(5, REAL, plan), VALUE(6, uint, n), VALUE(7, uint, m), VALUE(8, uint, a_step),
       VALUE(9, uint, b_step), VALUE(10, uint, c_step), VALUE(11, REAL, epsilon), VALUE(12, REAL, tolerance),
       VALUE(13, REAL, scaling), VALUE(14, uint, sweeps), VALUE(15, uint, with_plan), VALUE(16, REAL, restart_reduction)) {
  SHARED(REAL, cost, 32 * PITCH);
  const uint lane = LANE;
  const ulong problem = GROUP;
  REAL low = given_cost[problem * c_step], high = low;
  UNROLL for (uint i = 0u; i < WARP; i++) {
    REAL c = 0;
    if (i < n && lane < m) {
      c = given_cost[problem * c_step + i * m + lane];
      low = fmin(low, c);
      high = fmax(high, c);
    }
    cost[i * PITCH + lane] = c;
  }
  BARRIER();
  REAL a = 0, b = 0;
  if (lane < n) a = given_a[problem * a_step + lane];
  if (lane < m) b = given_b[problem * b_step + lane];
  const REAL mass = warp_sum(a);
  b *= mass / warp_sum(b);
  const REAL log_a = a > 0 ? log2(a) : LOWEST, log_b = b > 0 ? log2(b) : LOWEST;
  // Weights so far apart leave the scalings no room: every sweep is one in the log domain then.
  const bool hard = WARP_ANY((a > 0 && !safe(a)) || (b > 0 && !safe(b)));
  REAL f = log_a, g = log_b, cells[CELLS];
  uint done = 0u;
  // Where epsilon is small beside the costs: a few sweeps at larger ones, down to it.
  low = -warp_max(-low);
  const REAL range = warp_max(high) - low;
  REAL factor = 1;
  if (scaling < 1 && range > UNSCALED_RANGE * epsilon)
    while (factor * epsilon < range) factor /= scaling;
  SERIAL while (factor > 1 && done + STAGE_SWEEPS < sweeps) {
    for (uint k = 0u; k < STAGE_SWEEPS; k++) log_sweep(cost, LOG2E / (epsilon * factor), log_a, log_b, lane, &f, &g);
    done += STAGE_SWEEPS;
    const REAL next = factor * scaling > 1 ? factor * scaling : (REAL)1;
    f = rescaled(f, log_a, factor / next);
    g = rescaled(g, log_b, factor / next);
    factor = next;
  }
  if (factor > 1) {
    f = rescaled(f, log_a, factor);
    g = rescaled(g, log_b, factor);
  }
  // Mild costs leave scalings enough room from the start.
  bool in_logs = hard || range * LOG2E > 28 * epsilon;
  if (!in_logs && a > 0) f = fma(low, LOG2E / epsilon, f);
  REAL goal = tolerance * mass, error = 0, rows = 0, columns = 0, u = 1, v = 1;
  bool going = true;
  while (going) {
    if (in_logs && done < sweeps) {
      log_sweep(cost, LOG2E / epsilon, log_a, log_b, lane, &f, &g);
      done += 1u;
    }
    in_logs = true;
    {
      REAL of_f[ROWS], of_g[COLUMNS];
      of_rows(f, lane, of_f);
      of_columns(g, lane, of_g);
      UNROLL for (uint p = 0u; p < ROWS; p++) {
        UNROLL for (uint q = 0u; q < COLUMNS; q++) {
          cells[p * COLUMNS + q] = exp2_normal(fma(-LOG2E / epsilon, cost[place_of(lane, p, q)], of_f[p] + of_g[q]));
        }
      }
    }
    u = 1;
    v = 1;
    bool scaling_on = true;
    SERIAL while (scaling_on) {
      const REAL sum = row_sum_of(cells, v, lane);
      rows = u * sum;
      error = warp_sum(fabs(rows - a));
      scaling_on = error > goal && done < sweeps && !hard;
      if (scaling_on) {
        const REAL next_u = a > 0 ? a / sum : (REAL)1;
        const REAL other = column_sum_of(cells, next_u, lane);
        const REAL next_v = b > 0 ? b / other : (REAL)1;
        scaling_on = !WARP_ANY(!safe(next_u) || !safe(next_v));
        if (scaling_on) {
          u = next_u;
          v = next_v;
          done += 1u;
        }
      }
    }
    // The plan's own marginals say whether it is done.
    columns = v * column_sum_of(cells, u, lane);
    f = a > 0 ? f + log2(u) : LOWEST;
    g = b > 0 ? g + log2(v) : LOWEST;
    const bool enough = !(error > goal);
    error = larger(error, warp_sum(fabs(columns - b)));
    going = done < sweeps && (!enough || error > tolerance * mass);
    if (enough) goal *= restart_reduction;
  }
  REAL of_u[ROWS], of_v[COLUMNS], paid = 0;
  of_rows(u, lane, of_u);
  of_columns(v, lane, of_v);
  UNROLL for (uint p = 0u; p < ROWS; p++) {
    UNROLL for (uint q = 0u; q < COLUMNS; q++) {
      const uint i = lane / 8u * 8u + p, j = 8u * q + lane % 8u;
      const REAL mass_of_cell = of_u[p] * cells[p * COLUMNS + q] * of_v[q];
      if (i < n && j < m) {
        if (with_plan != 0u) plan[problem * n * m + i * m + j] = mass_of_cell;
        paid = fma(mass_of_cell, cost[place_of(lane, p, q)], paid);
      }
    }
  }
  // Potentials in units of the cost, and the slopes by weight, to a weighted mean of 0.
  const REAL unit = epsilon * LN2;
  const REAL pa = a > 0 ? (f - log_a) * unit : (REAL)0, pb = b > 0 ? (g - log_b) * unit : (REAL)0;
  REAL slope_a = a > 0 ? pa + epsilon * (mass - rows / a) : (REAL)0;
  REAL slope_b = b > 0 ? pb + epsilon * (mass - columns / b) : (REAL)0;
  const REAL mean_a = warp_sum(slope_a * a) / mass, mean_b = warp_sum(slope_b * b) / mass;
  slope_a = a > 0 ? slope_a - mean_a : (REAL)0;
  slope_b = b > 0 ? slope_b - mean_b : (REAL)0;
  const ulong points = n + m, first = problem * 3u * points;
  if (lane < n) {
    sides[first + lane] = slope_a;
    sides[first + points + lane] = f;
    sides[first + 2u * points + lane] = rows;
  }
  if (lane < m) {
    sides[first + n + lane] = slope_b;
    sides[first + points + n + lane] = g;
    sides[first + 2u * points + n + lane] = columns;
  }
  const REAL value = warp_sum(fma(pa, a, pb * b)), total = warp_sum(rows);
  paid = warp_sum(paid);
  if (lane == 0u) {
    report[4u * problem] = fma(epsilon, mass * mass - total, value);
    report[4u * problem + 1u] = paid;
    report[4u * problem + 2u] = error;
    report[4u * problem + 3u] = (REAL)done;
  }
}
