// The DecAlign release's transport loss and its gradient back through every sweep: kernel.rs and kernel_reverse.rs on a
// device, in one launch.
//
// K = max(exp(-C / eps), floor); u_m = nu_m / (s_m + shift), s_m the sums of K times the other scalings.

// The product of the scalings of a cell but those of marginals m and l.
DEVICE REAL others(SHARED_POINTER(REAL) scalings, uint m, uint l, uint cell) {
  REAL product = 1;
  UNROLL for (uint k = 0u; k < M; k++)
    if (k != m && k != l) product *= scalings[point_of(k, cell)];
  return product;
}

KERNEL(loss, INPUT(0, REAL, weights), INPUT(1, REAL, cost), OUTPUT(2, REAL, losses), OUTPUT(3, REAL, d_weights),
       OUTPUT(4, REAL, d_cost), OUTPUT(5, REAL, history), OUTPUT(6, REAL, sums), VALUE(7, REAL, epsilon), VALUE(8, uint, sweeps),
       VALUE(9, uint, with_gradients)) {
  SHARED(REAL, kern, ROOM);
  SHARED(REAL, d_kern, ROOM);
  SHARED(REAL, scalings, POINTS);
  SHARED(REAL, d_scalings, POINTS);
  SHARED(REAL, d_sums, POINTS);
  SHARED(REAL, partial, WARPS);
  const uint warp = LANE / WARP, lane = LANE % WARP;
  const ulong first_point = (ulong)GROUP * POINTS, first_cell = (ulong)GROUP * CELLS;
  // Of this problem: scalings before every sweep and at the end; denominators of every sweep.
  const ulong past = (ulong)GROUP * (sweeps + 1u) * POINTS, past_sums = (ulong)GROUP * sweeps * POINTS;
  const REAL floor_ = (REAL)1e-30, shift = (REAL)1e-8, plan_floor = (REAL)1e-8;
  for (uint c = LANE; c < CELLS; c += LANES) {
    const REAL e = exp(-cost[first_cell + c] / epsilon);
    kern[place_of(c)] = e < floor_ ? floor_ : e;
  }
  for (uint p = LANE; p < POINTS; p += LANES) {
    scalings[p] = 1;
    history[past + p] = 1;
  }
  BARRIER();
  SERIAL for (uint sweep = 0u; sweep < sweeps; sweep++) {
    SERIAL for (uint m = 0u; m < M; m++) {
      const uint count = CELLS / SIZE(m);
      for (uint i = warp; i < SIZE(m); i += WARPS) {
        REAL sum = 0;
        for (uint t = lane; t < count; t += WARP) {
          const uint c = cell_of(m, i, t);
          sum = fma(kern[place_of(c)], others(scalings, m, M, c), sum);
        }
        sum = warp_sum(sum) + shift;
        if (lane == 0u) {
          const uint p = START(m) + i;
          const REAL u = weights[first_point + p] / sum;
          scalings[p] = u;
          sums[past_sums + (ulong)sweep * POINTS + p] = sum;
          history[past + (ulong)(sweep + 1u) * POINTS + p] = u;
        }
      }
      BARRIER_GLOBAL();
    }
  }
  // The loss, and in d_kern the slope of the loss with respect to the plan.
  REAL value = 0;
  for (uint c = LANE; c < CELLS; c += LANES) {
    const REAL t = kern[place_of(c)] * others(scalings, M, M, c);
    const bool free_ = t >= plan_floor;
    const REAL v = fma(epsilon, log(free_ ? t : plan_floor) - 1, cost[first_cell + c]);
    value = fma(t, v, value);
    d_kern[place_of(c)] = v + (free_ ? epsilon : (REAL)0);
    // What the loss says of the cost itself: the plan.
    d_cost[first_cell + c] = t;
  }
  value = warp_sum(value);
  if (lane == 0u) partial[warp] = value;
  BARRIER_GLOBAL();
  if (LANE == 0u) {
    REAL total = 0;
    for (uint w = 0u; w < WARPS; w++) total += partial[w];
    losses[GROUP] = total;
  }
  if (with_gradients == 0u) return;
  SERIAL for (uint m = 0u; m < M; m++) {
    const uint count = CELLS / SIZE(m);
    for (uint i = warp; i < SIZE(m); i += WARPS) {
      REAL sum = 0;
      for (uint t = lane; t < count; t += WARP) {
        const uint c = cell_of(m, i, t);
        sum = fma(d_kern[place_of(c)] * kern[place_of(c)], others(scalings, m, M, c), sum);
      }
      sum = warp_sum(sum);
      if (lane == 0u) {
        d_scalings[START(m) + i] = sum;
        d_sums[START(m) + i] = 0;
        d_weights[first_point + START(m) + i] = 0;
      }
    }
  }
  BARRIER_GLOBAL();
  for (uint c = LANE; c < CELLS; c += LANES) d_kern[place_of(c)] *= others(scalings, M, M, c);
  BARRIER();
  SERIAL for (uint back = 0u; back < sweeps; back++) {
    const uint sweep = sweeps - 1u - back;
    SERIAL for (uint step = 0u; step < M; step++) {
      const uint m = M - 1u - step;
      // The sums of marginal m saw its own scalings as they were before.
      for (uint i = LANE; i < SIZE(m); i += LANES) {
        const uint p = START(m) + i;
        const REAL u = history[past + (ulong)(sweep + 1u) * POINTS + p];
        const REAL slope = d_scalings[p] / sums[past_sums + (ulong)sweep * POINTS + p];
        d_weights[first_point + p] += slope;
        d_sums[p] = -slope * u;
        d_scalings[p] = 0;
        scalings[p] = history[past + (ulong)sweep * POINTS + p];
      }
      BARRIER();
      for (uint c = LANE; c < CELLS; c += LANES)
        d_kern[place_of(c)] = fma(d_sums[point_of(m, c)], others(scalings, m, M, c), d_kern[place_of(c)]);
      SERIAL for (uint k = 0u; k < M; k++) {
        if (k == m) continue;
        const uint count = CELLS / SIZE(k);
        for (uint i = warp; i < SIZE(k); i += WARPS) {
          REAL sum = 0;
          for (uint t = lane; t < count; t += WARP) {
            const uint c = cell_of(k, i, t);
            sum = fma(d_sums[point_of(m, c)] * kern[place_of(c)], others(scalings, m, k, c), sum);
          }
          sum = warp_sum(sum);
          if (lane == 0u) d_scalings[START(k) + i] += sum;
        }
      }
      BARRIER();
    }
  }
  for (uint c = LANE; c < CELLS; c += LANES) {
    const REAL k = kern[place_of(c)];
    // No gradient where the floor holds.
    d_cost[first_cell + c] += k > floor_ ? d_kern[place_of(c)] * -k / epsilon : (REAL)0;
  }
}
