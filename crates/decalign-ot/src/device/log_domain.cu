// Multi-marginal Sinkhorn in the log domain, all sweeps of a problem in one launch: dense.rs on a device.
//
// Potentials count in base 2 with the weights folded in, F_m = f_m / (eps ln 2) + log2 nu_m, so that
// T = 2^(sum of F - C / (eps ln 2)). A warp sums the cells of a point at a time.

// The sum of the potentials of a cell, but that of marginal m, less its cost.
DEVICE REAL exponent(SHARED_POINTER(REAL) cost, SHARED_POINTER(REAL) potentials, uint m, uint cell) {
  REAL e = -cost[place_of(cell)];
  UNROLL for (uint k = 0u; k < M; k++)
    if (k != m) e += potentials[point_of(k, cell)];
  return e;
}

// log2 of the sum of the cells of point i of marginal m, without its own potential.
DEVICE REAL log_sum(SHARED_POINTER(REAL) cost, SHARED_POINTER(REAL) potentials, uint m, uint i, uint lane) {
  const uint count = CELLS / SIZE(m);
  REAL largest = LOWEST * 8;
  for (uint t = lane; t < count; t += WARP) largest = larger(largest, exponent(cost, potentials, m, cell_of(m, i, t)));
  largest = warp_max(largest);
  REAL sum = 0;
  for (uint t = lane; t < count; t += WARP) sum += exp2(exponent(cost, potentials, m, cell_of(m, i, t)) - largest);
  return largest + log2(warp_sum(sum));
}

// The L1 error of marginal m, whose points' sums are given as logarithms; the same in every lane.
DEVICE REAL error_of(SHARED_POINTER(REAL) weights, SHARED_POINTER(REAL) potentials, SHARED_POINTER(REAL) logs, uint m) {
  REAL error = 0;
  for (uint i = 0u; i < SIZE(m); i++) {
    const uint p = START(m) + i;
    if (weights[p] > 0) error += fabs(exp2(potentials[p] + logs[p]) - weights[p]);
  }
  return error;
}

// `report` is (value, <T, C>, marginal error, sweeps) of every problem.
KERNEL(solve, INPUT(0, REAL, given_weights), INPUT(1, REAL, given_cost), OUTPUT(2, REAL, report), OUTPUT(3, REAL, values),
       OUTPUT(4, REAL, slopes), OUTPUT(5, REAL, plan), VALUE(6, REAL, epsilon), VALUE(7, REAL, tolerance), VALUE(8, uint, sweeps),
       VALUE(9, REAL, restart_reduction)) {
  SHARED(REAL, cost, ROOM);
  SHARED(REAL, weights, POINTS);
  SHARED(REAL, potentials, POINTS);
  SHARED(REAL, logs, POINTS);
  SHARED(REAL, partial, 2 * WARPS);
  const uint warp = LANE / WARP, lane = LANE % WARP;
  const ulong first_point = (ulong)GROUP * POINTS, first_cell = (ulong)GROUP * CELLS;
  const REAL inverse = LOG2E / epsilon;
  for (uint c = LANE; c < CELLS; c += LANES) cost[place_of(c)] = given_cost[first_cell + c] * inverse;
  for (uint p = LANE; p < POINTS; p += LANES) {
    const REAL w = given_weights[first_point + p];
    weights[p] = w;
    potentials[p] = w > 0 ? log2(w) : LOWEST;
    logs[p] = 0;
  }
  BARRIER();
  REAL mass = 0;
  for (uint i = 0u; i < SIZE(0); i++) mass += weights[i];
  REAL goal = tolerance * mass, error = 0;
  uint done = 0u;
  bool going = true;
  // Sweeps, and where they seem to have come far enough, a look at the marginals of the plan itself.
  while (going) {
    bool look = done == sweeps;
    if (!look) {
      error = 0;
      SERIAL for (uint m = 0u; m < M; m++) {
        for (uint i = warp; i < SIZE(m); i += WARPS) {
          const REAL log = log_sum(cost, potentials, m, i, lane);
          if (lane == 0u) logs[START(m) + i] = log;
        }
        BARRIER();
        error = larger(error, error_of(weights, potentials, logs, m));
        BARRIER();
        for (uint i = LANE; i < SIZE(m); i += LANES) {
          const uint p = START(m) + i;
          if (weights[p] > 0) potentials[p] = log2(weights[p]) - logs[p];
        }
        BARRIER();
      }
      done += 1u;
      look = !(error > goal);
    }
    if (look) {
      error = 0;
      SERIAL for (uint m = 0u; m < M; m++) {
        for (uint i = warp; i < SIZE(m); i += WARPS) {
          const REAL log = log_sum(cost, potentials, m, i, lane);
          if (lane == 0u) logs[START(m) + i] = log;
        }
      }
      BARRIER();
      SERIAL for (uint m = 0u; m < M; m++) error = larger(error, error_of(weights, potentials, logs, m));
      BARRIER();
      going = error > tolerance * mass && done < sweeps;
      goal *= restart_reduction;
    }
  }
  // The plan, its mass and its cost.
  REAL total = 0, paid = 0;
  for (uint c = LANE; c < CELLS; c += LANES) {
    const REAL t = exp2(exponent(cost, potentials, M, c));
    plan[first_cell + c] = t;
    total += t;
    paid = fma(t, given_cost[first_cell + c], paid);
  }
  total = warp_sum(total);
  paid = warp_sum(paid);
  if (lane == 0u) {
    partial[warp] = total;
    partial[WARPS + warp] = paid;
  }
  BARRIER();
  total = 0;
  paid = 0;
  for (uint w = 0u; w < WARPS; w++) {
    total += partial[w];
    paid += partial[WARPS + w];
  }
  // Potentials in units of the cost: the slopes of the value, centred over points with mass.
  const REAL unit = epsilon * LN2;
  REAL value = 0, product = 1;
  SERIAL for (uint m = 0u; m < M; m++) {
    REAL weight = 0, mean = 0, count = 0;
    for (uint i = 0u; i < SIZE(m); i++) {
      const uint p = START(m) + i;
      if (weights[p] > 0) {
        const REAL f = (potentials[p] - log2(weights[p])) * unit;
        value = fma(f, weights[p], value);
        weight += weights[p];
        mean += f;
        count += 1;
      }
    }
    product *= weight;
    mean /= count;
    for (uint i = LANE; i < SIZE(m); i += LANES) {
      const uint p = START(m) + i;
      slopes[first_point + p] = weights[p] > 0 ? (potentials[p] - log2(weights[p])) * unit - mean : (REAL)0;
    }
  }
  if (LANE == 0u) {
    values[GROUP] = value + epsilon * (product - total);
    report[4 * (ulong)GROUP] = value + epsilon * (product - total);
    report[4 * (ulong)GROUP + 1] = paid;
    report[4 * (ulong)GROUP + 2] = error;
    report[4 * (ulong)GROUP + 3] = (REAL)done;
  }
}
