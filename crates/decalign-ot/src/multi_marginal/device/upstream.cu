// The upstream transport loss and its gradient through every sweep in one launch: kernel.rs and kernel_backward.rs on a
// device.
//
// K = max(exp(-C / eps), floor); u_m = nu_m / (s_m + shift), s_m the sums of K times the other scalings.
//
// The latency from one sum to the next bounds the time: loops over marginals are unrolled, so that indices are constants of a lane,
// and a sweep has one barrier for each marginal in either direction.

#define OWN ((CELLS + LANES - 1u) / LANES)
#define OWN_POINTS ((POINTS + LANES - 1u) / LANES)
// Cells of a point that a lane adds up without a loop.
#define TURNS 8u

// Lanes that add up the cells of one point of a marginal of this size, and warps that take all its points.
#define SHARE_OF(size) \
  (CELLS / (size) <= 64u || 16u * (size) > LANES ? 8u : CELLS / (size) <= 128u || 32u * (size) > LANES ? 16u : 32u)
#define WARPS_OF(size) (((size) * SHARE_OF(size) + 31u) / 32u)
#define SOME(m, number) (M > m ? number : 0u)
#define TAKEN                                                                                                                   \
  (WARPS_OF(K0) + WARPS_OF(K1) + SOME(2u, WARPS_OF(K2)) + SOME(3u, WARPS_OF(K3)) + SOME(4u, WARPS_OF(K4)) + SOME(5u, WARPS_OF(K5)) + \
   SOME(6u, WARPS_OF(K6)))
#define FEW(size) (CELLS / (size) <= TURNS * SHARE_OF(size))
// Whether every marginal has separate warps and every lane needs TURNS cells at most: the places of its cells are then computed once.
#if M < 8u && TAKEN <= LANES / 32u && FEW(K0) && FEW(K1) && (M < 3u || FEW(K2)) && (M < 4u || FEW(K3)) && (M < 5u || FEW(K4)) && \
    (M < 6u || FEW(K5)) && (M < 7u || FEW(K6))
#define FIXED 1
#else
#define FIXED 0
#endif

DEVICE uint SHARE(uint m) { return SHARE_OF(SIZE(m)); }

// The first of the warps that take the points of marginal m.
DEVICE uint AHEAD(uint m) {
  uint warps = 0u;
  for (uint k = 0u; k < m; k++) warps += WARPS_OF(SIZE(k));
  return FIXED ? warps : m * (WARPS / M) % WARPS;
}

// The first point of marginal m that a warp takes; the next are WARPS times a warp's points further.
DEVICE uint first_of(uint m, uint warp) { return (warp + WARPS - AHEAD(m)) % WARPS * (WARP / SHARE(m)); }

// The product of the scalings of a cell without those of marginals m and l.
DEVICE REAL others(SHARED_POINTER(const REAL) scalings, uint m, uint l, uint cell) {
  REAL product = 1;
  UNROLL for (uint k = 0u; k < M; k++)
    if (k != m && k != l) product *= scalings[point_of(k, cell)];
  return product;
}

// The sum over the cells of point i of marginal m of a table times the scalings of the others, where `instead` replaces the scalings
// of marginal l. All lanes of a share receive it.
DEVICE REAL gathered(SHARED_POINTER(const REAL) table, SHARED_POINTER(const REAL) scalings, SHARED_POINTER(const REAL) instead, uint m,
                     uint l, uint i, uint lane, LOCAL(const uint) places, LOCAL(const uint) at) {
  const uint count = CELLS / SIZE(m), turns = (count + SHARE(m) - 1u) / SHARE(m);
  REAL sum = 0;
#if FIXED
  UNROLL for (uint n = 0u; n < TURNS; n++) {
    if (n >= turns) continue;
    REAL factor = 1;
    UNROLL for (uint k = 0u; k < M; k++)
      if (k != m) factor *= k == l ? instead[at[k * TURNS + n]] : scalings[at[k * TURNS + n]];
    sum = fma(table[places[n]], factor, sum);
  }
#else
  for (uint t = lane % SHARE(m); t < count; t += SHARE(m)) {
    const uint c = cell_of(m, i, t);
    REAL factor = others(scalings, m, l, c);
    if (l < M) factor *= instead[point_of(l, c)];
    sum = fma(table[place_of(c)], factor, sum);
  }
#endif
  UNROLL for (uint mask = 16u; mask > 0u; mask >>= 1)
    if (mask < SHARE(m)) sum += SHUFFLE_XOR(sum, mask);
  return sum;
}

KERNEL(loss, INPUT(0, REAL, weights), INPUT(1, REAL, cost), OUTPUT(2, REAL, losses), OUTPUT(3, REAL, d_weights),
       OUTPUT(4, REAL, d_cost), OUTPUT(5, REAL, history), OUTPUT(6, REAL, sums), VALUE(7, REAL, epsilon), VALUE(8, uint, sweeps),
       VALUE(9, uint, with_gradients)) {
  // The last number, 0, stands for absent cells.
  SHARED(REAL, kern, ROOM + 1u);
  SHARED(REAL, slope, ROOM + 1u);
  SHARED(REAL, given, POINTS);
  SHARED(REAL, scalings, POINTS);
  SHARED(REAL, d_given, POINTS);
  SHARED(REAL, d_scalings, POINTS);
  SHARED(REAL, d_sums, POINTS);
  // Scalings before this sweep and the next, and their denominators.
  SHARED(REAL, before, 2 * POINTS);
  SHARED(REAL, denominators, 2 * POINTS);
  SHARED(REAL, partial, WARPS);
  const uint warp = LANE / WARP, lane = LANE % WARP;
  const ulong first_point = (ulong)GROUP * POINTS, first_cell = (ulong)GROUP * CELLS;
  // Offsets of this problem in the history (scalings before every sweep and at the end) and in the denominators.
  const ulong past = (ulong)GROUP * (sweeps + 1u) * POINTS, past_sums = (ulong)GROUP * sweeps * POINTS;
  const REAL floor_ = (REAL)1e-30, shift = (REAL)1e-8, plan_floor = (REAL)1e-8;
  for (uint c = LANE; c < CELLS; c += LANES) {
    const REAL e = exp(-cost[first_cell + c] / epsilon);
    kern[place_of(c)] = e < floor_ ? floor_ : e;
  }
  if (LANE == 0u) {
    kern[ROOM] = 0;
    slope[ROOM] = 0;
  }
  // The places of the cells that a lane adds up with their points, and the points of the lane's own cells.
  uint places[TURNS], at[M * TURNS], points[M * OWN];
#if FIXED
  UNROLL for (uint n = 0u; n < TURNS; n++) {
    places[n] = ROOM;
    UNROLL for (uint k = 0u; k < M; k++) at[k * TURNS + n] = START(k);
  }
  UNROLL for (uint m = 0u; m < M; m++) {
    if (first_of(m, warp) >= SIZE(m)) continue;
    const uint i = least(first_of(m, warp) + lane / SHARE(m), SIZE(m) - 1u);
    UNROLL for (uint n = 0u; n < TURNS; n++) {
      const uint t = lane % SHARE(m) + n * SHARE(m);
      if (t >= CELLS / SIZE(m)) continue;
      const uint c = cell_of(m, i, t);
      places[n] = place_of(c);
      UNROLL for (uint k = 0u; k < M; k++) at[k * TURNS + n] = point_of(k, c);
    }
  }
#endif
  UNROLL for (uint n = 0u; n < OWN; n++)
    UNROLL for (uint k = 0u; k < M; k++) points[k * OWN + n] = point_of(k, least(LANE + n * LANES, CELLS - 1u));
  for (uint p = LANE; p < POINTS; p += LANES) {
    given[p] = weights[first_point + p];
    scalings[p] = 1;
    d_given[p] = 0;
    d_scalings[p] = 0;
    history[past + p] = 1;
  }
  BARRIER();
  SERIAL for (uint sweep = 0u; sweep < sweeps; sweep++) {
    const ulong row = (ulong)sweep * POINTS;
    UNROLL for (uint m = 0u; m < M; m++) {
      const uint step = WARP / SHARE(m);
      for (uint first = first_of(m, warp); first < SIZE(m); first += WARPS * step) {
        const uint i = first + lane / SHARE(m), p = START(m) + least(i, SIZE(m) - 1u);
        const REAL sum = gathered(kern, scalings, scalings, m, M, p - START(m), lane, places, at) + shift;
        if (i < SIZE(m) && lane % SHARE(m) == 0u) {
          const REAL u = given[p] / sum;
          scalings[p] = u;
          sums[past_sums + row + p] = sum;
          history[past + row + POINTS + p] = u;
        }
      }
      BARRIER();
    }
  }
  // The loss; its slope with respect to the plan, times the kernel, in `slope`; the gradient of the kernel for the cells of a lane.
  REAL d_kern[OWN];
  REAL value = 0;
  UNROLL for (uint n = 0u; n < OWN; n++) {
    const uint c = LANE + n * LANES;
    d_kern[n] = 0;
    if (c < CELLS) {
      const REAL k = kern[place_of(c)], product = others(scalings, M, M, c), t = k * product;
      const bool free_ = t >= plan_floor;
      const REAL v = fma(epsilon, log(free_ ? t : plan_floor) - 1, cost[first_cell + c]);
      value = fma(t, v, value);
      const REAL d = v + (free_ ? epsilon : (REAL)0);
      slope[place_of(c)] = d * k;
      d_kern[n] = d * product;
      // The direct gradient of the loss with respect to the cost: the plan.
      d_cost[first_cell + c] = t;
    }
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
  // Prefetch the numbers of the next backward sweep from global memory one sweep ahead.
  REAL next_before[OWN_POINTS], next_sums[OWN_POINTS];
  UNROLL for (uint n = 0u; n < OWN_POINTS; n++) {
    const uint p = LANE + n * LANES;
    next_before[n] = 0;
    next_sums[n] = 0;
    if (p < POINTS) {
      const uint place = ((sweeps - 1u) % 2u) * POINTS + p;
      before[place] = history[past + (ulong)(sweeps - 1u) * POINTS + p];
      denominators[place] = sums[past_sums + (ulong)(sweeps - 1u) * POINTS + p];
      if (sweeps > 1u) {
        next_before[n] = history[past + (ulong)(sweeps - 2u) * POINTS + p];
        next_sums[n] = sums[past_sums + (ulong)(sweeps - 2u) * POINTS + p];
      }
    }
  }
  BARRIER();
  UNROLL for (uint m = 0u; m < M; m++) {
    const uint step = WARP / SHARE(m);
    for (uint first = first_of(m, warp); first < SIZE(m); first += WARPS * step) {
      const uint i = first + lane / SHARE(m), p = START(m) + least(i, SIZE(m) - 1u);
      const REAL sum = gathered(slope, scalings, scalings, m, M, p - START(m), lane, places, at);
      if (i < SIZE(m) && lane % SHARE(m) == 0u) {
        d_scalings[p] = sum;
        if (m == M - 1u) {
          const REAL d = sum / denominators[((sweeps - 1u) % 2u) * POINTS + p];
          d_given[p] = d;
          d_sums[p] = -d * scalings[p];
          d_scalings[p] = 0;
        }
      }
    }
  }
  BARRIER();
  // At marginal m, d_sums of m are known; those of the next marginal follow once its gradient is complete.
  SERIAL for (uint left = sweeps; left > 0u; left--) {
    const uint now = ((left - 1u) % 2u) * POINTS, then = (left % 2u) * POINTS;
    UNROLL for (uint n = 0u; n < OWN_POINTS; n++) {
      const uint p = LANE + n * LANES;
      if (p < POINTS && left > 1u) {
        before[then + p] = next_before[n];
        denominators[then + p] = next_sums[n];
        if (left > 2u) {
          next_before[n] = history[past + (ulong)(left - 3u) * POINTS + p];
          next_sums[n] = sums[past_sums + (ulong)(left - 3u) * POINTS + p];
        }
      }
    }
    UNROLL for (uint turn = 0u; turn < M; turn++) {
      const uint m = M - 1u - turn, next = m > 0u ? m - 1u : M - 1u, from = m > 0u ? now : then;
      const bool last = m == 0u && left == 1u;
      // The sums after the update of m used its scalings before the sweep; no other lane reads them now.
      for (uint i = LANE; i < SIZE(m); i += LANES) scalings[START(m) + i] = before[now + START(m) + i];
      UNROLL for (uint n = 0u; n < OWN; n++) {
        const uint c = LANE + n * LANES;
        REAL factor = d_sums[points[m * OWN + n]];
        UNROLL for (uint k = 0u; k < M; k++)
          if (k != m) factor *= scalings[points[k * OWN + n]];
        if (c < CELLS) d_kern[n] += factor;
      }
      UNROLL for (uint k = 0u; k < M; k++) {
        if (k == m) continue;
        // Neighbouring warps take neighbouring marginals.
        const uint step = WARP / SHARE(k);
        for (uint first = first_of(k, warp); first < SIZE(k); first += WARPS * step) {
          const uint i = first + lane / SHARE(k), p = START(k) + least(i, SIZE(k) - 1u);
          const REAL sum = gathered(kern, scalings, d_sums, k, m, p - START(k), lane, places, at);
          if (i < SIZE(k) && lane % SHARE(k) == 0u) {
            const REAL all = d_scalings[p] + sum;
            if (k == next && !last) {
              const REAL d = all / denominators[from + p];
              d_given[p] += d;
              d_sums[p] = -d * scalings[p];
              d_scalings[p] = 0;
            } else {
              d_scalings[p] = all;
            }
          }
        }
      }
      BARRIER();
    }
  }
  for (uint p = LANE; p < POINTS; p += LANES) d_weights[first_point + p] = d_given[p];
  UNROLL for (uint n = 0u; n < OWN; n++) {
    const uint c = LANE + n * LANES;
    if (c < CELLS) {
      const REAL k = kern[place_of(c)];
      // No gradient where the kernel is at its floor.
      d_cost[first_cell + c] += k > floor_ ? d_kern[n] * -k / epsilon : (REAL)0;
    }
  }
}
