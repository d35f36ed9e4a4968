// All costs between two or three modalities' mixtures: prototypes to prototypes as in gaussian/diagonal.rs, samples to prototypes as in
// coupling.rs. MODALITIES have samples x (batch, width), responsibilities r (batch, COMPONENTS), and means m and variances v
// (COMPONENTS, width). A `floor_` of 0 is no scale. Sizes of all together fit 32 bits.

#define SHIFT ((REAL)1e-8)
#define OTHERS (MODALITIES - 1u)
#define ORDERED (MODALITIES * OTHERS)
// Prototypes that a lane holds, and samples that it loads at a time.
#define HELD (COMPONENTS < 8u ? COMPONENTS : 8u)
#define LOADED 4u

// Of the modality or pair `i`.
#define PICK(i, name) ((i) == 0u ? name##0 : (i) == 1u ? name##1 : name##2)
#define PICK_ORDERED(i, name) \
  ((i) == 0u ? name##0 : (i) == 1u ? name##1 : (i) == 2u ? name##2 : (i) == 3u ? name##3 : (i) == 4u ? name##4 : name##5)

// The ordered pair of samples of `i` and prototypes of `j`.
DEVICE uint ordered(uint i, uint j) { return i * OTHERS + (j < i ? j : j - 1u); }

DEVICE REAL precision_of(REAL variance, REAL floor_) {
  if (floor_ == 0) return 1;
  return 1 / (variance >= floor_ ? variance : floor_);
}

// Samples of a modality to another's prototypes, by all lanes of a group, for its first lane. A lane has a column and a slice of
// the samples.
DEVICE REAL coupling(GLOBAL(const REAL) x, GLOBAL(const REAL) r, GLOBAL(const REAL) m, GLOBAL(const REAL) v, SHARED_POINTER(REAL) partial,
                     uint batch, uint width, REAL floor_, uint lane_of_group) {
  const uint warp = lane_of_group / WARP, lane = lane_of_group % WARP;
  const uint blocks = (width + WARP - 1u) / WARP, slices = blocks < WARPS ? WARPS / blocks : 1u, teams = WARPS / slices;
  const uint slice = warp % slices;
  REAL total = 0;
  if (warp < teams * slices) {
    for (uint block = warp / slices; block < blocks; block += teams) {
      const uint column = least(block * WARP + lane, width - 1u);
      const bool inside = block * WARP + lane < width;
      for (uint first = 0u; first < COMPONENTS; first += HELD) {
        REAL mean[HELD], precision[HELD], sums[HELD];
        UNROLL for (uint t = 0u; t < HELD; t++) {
          const uint at = least(first + t, COMPONENTS - 1u) * width + column;
          mean[t] = m[at];
          precision[t] = inside && first + t < COMPONENTS ? precision_of(v[at], floor_) : (REAL)0;
          sums[t] = 0;
        }
        for (uint b = slice; b < batch; b += LOADED * slices) {
          UNROLL for (uint u = 0u; u < LOADED; u++) {
            const uint row = least(b + u * slices, batch - 1u);
            const bool there = b + u * slices < batch;
            const REAL value = x[row * width + column];
            UNROLL for (uint t = 0u; t < HELD; t++) {
              const REAL share = r[row * COMPONENTS + least(first + t, COMPONENTS - 1u)], e = value - mean[t];
              sums[t] = fma(there ? share : (REAL)0, e * e, sums[t]);
            }
          }
        }
        UNROLL for (uint t = 0u; t < HELD; t++) total = fma(precision[t], sums[t], total);
      }
    }
  }
  total = warp_sum(total);
  if (lane == 0u) partial[warp] = total;
  BARRIER();
  return warp == 0u ? warp_sum(lane < WARPS ? partial[lane] : (REAL)0) : (REAL)0;
}

// The first ORDERED groups do the samples, a pair of modalities each; the others the prototypes, a pair of these a warp.
KERNEL(costs, INPUT(0, REAL, x0), INPUT(1, REAL, x1), INPUT(2, REAL, x2), INPUT(3, REAL, r0), INPUT(4, REAL, r1), INPUT(5, REAL, r2),
       INPUT(6, REAL, m0), INPUT(7, REAL, m1), INPUT(8, REAL, m2), INPUT(9, REAL, v0), INPUT(10, REAL, v1), INPUT(11, REAL, v2),
       OUTPUT(12, REAL, cost0), OUTPUT(13, REAL, cost1), OUTPUT(14, REAL, cost2), OUTPUT(15, REAL, local0), OUTPUT(16, REAL, local1),
       OUTPUT(17, REAL, local2), OUTPUT(18, REAL, local3), OUTPUT(19, REAL, local4), OUTPUT(20, REAL, local5), VALUE(21, uint, batch),
       VALUE(22, uint, width), VALUE(23, REAL, floor_), VALUE(24, REAL, factor), VALUE(25, REAL, local_factor)) {
  SHARED(REAL, partial, WARPS);
  if (GROUP < ORDERED) {
    const uint i = GROUP / OTHERS, j = GROUP % OTHERS + (GROUP % OTHERS >= i ? 1u : 0u);
    const REAL sum = coupling(PICK(i, x), PICK(i, r), PICK(j, m), PICK(j, v), partial, batch, width, floor_, LANE);
    if (LANE == 0u) PICK_ORDERED(GROUP, local)[0] = local_factor * sum;
    return;
  }
  const uint at = (GROUP - ORDERED) * WARPS + LANE / WARP, pair = at / (COMPONENTS * COMPONENTS), cell = at % (COMPONENTS * COMPONENTS);
  if (pair >= ORDERED / 2u) return;
  const uint i = pair < 2u ? 0u : 1u, j = pair == 0u ? 1u : 2u;
  const uint a = cell / COMPONENTS * width, c = cell % COMPONENTS * width;
  GLOBAL(const REAL) m = PICK(i, m);
  GLOBAL(const REAL) v = PICK(i, v);
  GLOBAL(const REAL) others_m = PICK(j, m);
  GLOBAL(const REAL) others_v = PICK(j, v);
  REAL sum = 0;
  for (uint d = LANE % WARP; d < width; d += WARP) {
    const REAL e = m[a + d] - others_m[c + d], variance = v[a + d], others = others_v[c + d];
    sum += fma(e, e, variance + others - 2 * sqrt(fma(variance, others, SHIFT)));
  }
  sum = warp_sum(sum);
  if (LANE % WARP == 0u) PICK(pair, cost)[cell] = sum * factor;
}

// Gradients with all uses added up, of all modalities one after the other. The first groups do a block of a prototype's columns
// each, the next the samples, a number a lane, and the last the responsibilities, one a warp.
KERNEL(costs_back, INPUT(0, REAL, x0), INPUT(1, REAL, x1), INPUT(2, REAL, x2), INPUT(3, REAL, r0), INPUT(4, REAL, r1),
       INPUT(5, REAL, r2), INPUT(6, REAL, m0), INPUT(7, REAL, m1), INPUT(8, REAL, m2), INPUT(9, REAL, v0), INPUT(10, REAL, v1),
       INPUT(11, REAL, v2), INPUT(12, REAL, cost0), INPUT(13, REAL, cost1), INPUT(14, REAL, cost2), INPUT(15, REAL, local0),
       INPUT(16, REAL, local1), INPUT(17, REAL, local2), INPUT(18, REAL, local3), INPUT(19, REAL, local4), INPUT(20, REAL, local5),
       OUTPUT(21, REAL, dx), OUTPUT(22, REAL, dr), OUTPUT(23, REAL, dm), OUTPUT(24, REAL, dv), VALUE(25, uint, batch),
       VALUE(26, uint, width), VALUE(27, REAL, floor_), VALUE(28, REAL, factor), VALUE(29, REAL, local_factor)) {
  SHARED(REAL, to_means, LANES);
  SHARED(REAL, to_variances, LANES);
  const uint warp = LANE / WARP, lane = LANE % WARP;
  const uint blocks = (width + WARP - 1u) / WARP, prototypes = MODALITIES * COMPONENTS * blocks;
  const uint points = batch * width, cells = batch * COMPONENTS, sample_groups = (MODALITIES * points + LANES - 1u) / LANES;
  if (GROUP < prototypes) {
    const uint row = GROUP / blocks, own = row / COMPONENTS, l = row % COMPONENTS, d = GROUP % blocks * WARP + lane;
    const bool inside = d < width;
    const uint column = least(d, width - 1u), at = l * width + column;
    const REAL mean = PICK(own, m)[at], variance = PICK(own, v)[at];
    const REAL precision = precision_of(variance, floor_);
    const bool passes = floor_ != 0 && variance >= floor_;
    REAL to_mean = 0, to_variance = 0;
    UNROLL for (uint step = 1u; step < MODALITIES; step++) {
      const uint other = (own + step) % MODALITIES, pair = own + other - 1u;
      GLOBAL(const REAL) x = PICK(other, x);
      GLOBAL(const REAL) r = PICK(other, r);
      const REAL slope = local_factor * PICK_ORDERED(ordered(other, own), local)[0];
      REAL first = 0, second = 0;
      for (uint b = warp; b < batch; b += WARPS) {
        const REAL weighted = (x[b * width + column] - mean) * precision, share = r[b * COMPONENTS + l];
        first = fma(share, weighted, first);
        second = fma(share * weighted, weighted, second);
      }
      to_mean = fma(-2 * slope, first, to_mean);
      if (passes) to_variance = fma(-slope, second, to_variance);
      GLOBAL(const REAL) m = PICK(other, m);
      GLOBAL(const REAL) v = PICK(other, v);
      GLOBAL(const REAL) g = PICK(pair, cost);
      for (uint q = warp; q < COMPONENTS; q += WARPS) {
        const REAL outer = factor * g[own < other ? l * COMPONENTS + q : q * COMPONENTS + l], others = v[q * width + column];
        to_mean = fma(2 * outer, mean - m[q * width + column], to_mean);
        to_variance = fma(outer, 1 - others / sqrt(fma(variance, others, SHIFT)), to_variance);
      }
    }
    to_means[LANE] = to_mean;
    to_variances[LANE] = to_variance;
    BARRIER();
    if (warp > 1u || !inside) return;
    REAL sum = 0;
    UNROLL for (uint w = 0u; w < WARPS; w++) sum += warp == 0u ? to_means[w * WARP + lane] : to_variances[w * WARP + lane];
    if (warp == 0u)
      dm[row * width + d] = sum;
    else
      dv[row * width + d] = sum;
    return;
  }
  if (GROUP < prototypes + sample_groups) {
    const uint at = (GROUP - prototypes) * LANES + LANE;
    if (at >= MODALITIES * points) return;
    const uint own = at / points, point = at % points, b = point / width, d = point % width;
    GLOBAL(const REAL) r = PICK(own, r);
    const REAL value = PICK(own, x)[point];
    REAL total = 0;
    UNROLL for (uint step = 1u; step < MODALITIES; step++) {
      const uint other = (own + step) % MODALITIES;
      GLOBAL(const REAL) m = PICK(other, m);
      GLOBAL(const REAL) v = PICK(other, v);
      REAL sum = 0;
      for (uint l = 0u; l < COMPONENTS; l++)
        sum = fma(r[b * COMPONENTS + l] * precision_of(v[l * width + d], floor_), value - m[l * width + d], sum);
      total = fma(2 * local_factor * PICK_ORDERED(ordered(own, other), local)[0], sum, total);
    }
    dx[at] = total;
    return;
  }
  const uint at = (GROUP - prototypes - sample_groups) * WARPS + warp;
  if (at >= MODALITIES * cells) return;
  const uint own = at / cells, b = at % cells / COMPONENTS, l = at % COMPONENTS;
  GLOBAL(const REAL) x = PICK(own, x);
  REAL total = 0;
  UNROLL for (uint step = 1u; step < MODALITIES; step++) {
    const uint other = (own + step) % MODALITIES;
    GLOBAL(const REAL) m = PICK(other, m);
    GLOBAL(const REAL) v = PICK(other, v);
    REAL sum = 0;
    for (uint d = lane; d < width; d += WARP) {
      const REAL e = x[b * width + d] - m[l * width + d];
      sum = fma(e * e, precision_of(v[l * width + d], floor_), sum);
    }
    total = fma(local_factor * PICK_ORDERED(ordered(own, other), local)[0], sum, total);
  }
  total = warp_sum(total);
  if (lane == 0u) dr[at] = total;
}
