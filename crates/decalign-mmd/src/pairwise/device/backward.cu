// The gradient of kernel sums with respect to the points, pairwise/backward.rs on a device.
//
// A group owns a tile of rows, a block of coordinates and every splits-th tile of columns: the slopes of a tile of pairs go through
// shared memory, 16 columns at a time, and times the rows of those columns into sums that stay in registers.

#define COORDINATES 64u
// Coordinates of a lane.
#define OWN 4u
// Columns at a time.
#define STEP 16u
// Rows of a lane whose slopes are computed at a time.
#define AT_ONCE 2u

// `gathered` (splits, rows, width) is sum_j w_rj x_j, or of signs where distances are sums of absolute differences; `masses`
// (splits, rows) is sum_j w_rj. Points that are not centred are taken about the first, or the two would cancel.
KERNEL(backward, INPUT(0, REAL, x), INPUT(1, REAL, norms), INPUT(2, REAL, numbers), INPUT(3, uint, layout), INPUT(4, REAL, longest),
       INPUT(5, REAL, outer), OUTPUT(6, REAL, gathered), OUTPUT(7, REAL, masses), VALUE(8, uint, width), VALUE(9, uint, samples),
       VALUE(10, uint, pairs), VALUE(11, uint, functionals), VALUE(12, uint, splits), VALUE(13, REAL, diagonal), VALUE(14, uint, bounds),
       VALUE(15, REAL, limit)) {
  SHARED(REAL, x_table, PAIR_ROOM);
  SHARED(REAL, y_table, PAIR_ROOM);
  SHARED(REAL, partial, WARPS);
  SHARED(REAL, mass, SIDE);
  if (for_other_program(longest, bounds, limit, partial, LANE)) return;
  const uint blocks = (width + COORDINATES - 1u) / COORDINATES;
  const uint split = GROUP % splits, block = GROUP / splits % blocks, tile = GROUP / splits / blocks;
  const uint i = last_start(layout, TILES, samples, tile);
  const uint first = layout[i] + (tile - layout[TILES + i]) * SIDE, end = layout[i + 1u], rows = layout[samples];
  const uint own = block * COORDINATES + LANE % 16u * OWN;
  REAL gains[EACH * OWN];
  UNROLL for (uint c = 0u; c < EACH * OWN; c++) gains[c] = 0;
  if (LANE % 16u == 0u) {
    UNROLL for (uint a = 0u; a < EACH; a++) mass[row_of(LANE, a)] = 0;
  }
  uint met = 0u;
  SERIAL for (uint partner = layout[PARTNERS + i]; partner < layout[PARTNERS + i + 1u]; partner++) {
    const uint j = layout[PARTNER + 2u * partner], pair = layout[PARTNER + 2u * partner + 1u];
    const uint second_end = layout[j + 1u];
    // The gradient of the loss with respect to the pair's sums.
    REAL scales[LEAVES];
    UNROLL for (uint l = 0u; l < LEAVES; l++) scales[l] = 0;
    SERIAL for (uint f = 0u; f < functionals; f++) {
      const REAL weight = numbers[3u * LEAVES + (ulong)f * pairs + pair];
      UNROLL for (uint l = 0u; l < LEAVES; l++) scales[l] = fma(outer[OWNER(l) * functionals + f], weight, scales[l]);
    }
    UNROLL for (uint l = 0u; l < LEAVES; l++) scales[l] *= numbers[3u * l];
    SERIAL for (uint second = layout[j]; second < second_end; second += SIDE) {
      if (met++ % splits != split) continue;
      REAL w[EACH * EACH];
      TILE_PRODUCTS(x, first, end, x, second, second_end, width, w);
      make_features(norms, first, end, second, second_end, LANE, w);
      // The others move up: an unrolled loop would hold all rows in registers at once.
      SERIAL for (uint turned = 0u; turned < EACH; turned += AT_ONCE) {
        REAL slopes[AT_ONCE * EACH];
        UNROLL for (uint a = 0u; a < AT_ONCE; a++) {
          const uint r = first + row_of(LANE, turned + a);
          REAL sum = 0;
          UNROLL for (uint b = 0u; b < EACH; b++) {
            const uint c = second + column_of(LANE, b);
            REAL slope = 0;
            UNROLL for (uint l = 0u; l < LEAVES; l++)
              slope = fma(scales[l], slope_of(FORM(l), DEGREE(l), w[a * EACH + b], numbers[3u * l + 1u], numbers[3u * l + 2u]), slope);
            // On the diagonal only inner products depend on the point.
            if (r == c) slope *= MEASURE == DOT ? 2 * diagonal : (REAL)0;
            if (r >= end || c >= second_end) slope = 0;
            slopes[a * EACH + b] = slope;
            sum += slope;
          }
          sum = row_sum(sum);
          if (LANE % 16u == 0u) mass[row_of(LANE, turned + a)] += sum;
        }
        UNROLL for (uint c = 0u; c < (EACH - AT_ONCE) * EACH; c++) w[c] = w[c + AT_ONCE * EACH];
        UNROLL for (uint c = 0u; c < AT_ONCE * EACH; c++) w[(EACH - AT_ONCE) * EACH + c] = slopes[c];
      }
#if MEASURE == CITY_BLOCK
      REAL points[EACH * OWN];
      UNROLL for (uint a = 0u; a < EACH; a++) {
        const uint r = first + row_of(LANE, a);
        UNROLL for (uint k = 0u; k < OWN; k++)
          points[a * OWN + k] = r < end && own + k < width ? x[(ulong)r * width + own + k] : (REAL)0;
      }
#endif
      UNROLL for (uint b = 0u; b < EACH; b++) {
        REAL next[OWN];
        const uint column = second + column_of(LANE / 16u, b);
        UNROLL for (uint k = 0u; k < OWN; k++) {
          const uint at = block * COORDINATES + LANE % 16u + 16u * k;
          next[k] = column < second_end && at < width ? x[(ulong)column * width + at] : (REAL)0;
#if MEASURE == DIFFERENCES
          if (column < second_end && at < width) next[k] -= x[at];
#endif
        }
        BARRIER();
        UNROLL for (uint a = 0u; a < EACH; a++) x_table[LANE % 16u * SIDE_PITCH + row_of(LANE, a)] = w[a * EACH + b];
        UNROLL for (uint k = 0u; k < OWN; k++) y_table[LANE / 16u * COORDINATES + LANE % 16u + 16u * k] = next[k];
        BARRIER();
        SERIAL for (uint four = 0u; four < STEP; four += 4u) {
          UNROLL for (uint t = 0u; t < 4u; t++) {
            REAL u[EACH], v[OWN];
            UNROLL for (uint a = 0u; a < EACH; a++) u[a] = x_table[(four + t) * SIDE_PITCH + row_of(LANE, a)];
            UNROLL for (uint k = 0u; k < OWN; k++) v[k] = y_table[(four + t) * COORDINATES + LANE % 16u * OWN + k];
            UNROLL for (uint a = 0u; a < EACH; a++) {
              UNROLL for (uint k = 0u; k < OWN; k++) {
#if MEASURE == CITY_BLOCK
                const REAL e = points[a * OWN + k] - v[k];
                gains[a * OWN + k] += e > 0 ? u[a] : e < 0 ? -u[a] : (REAL)0;
#else
                gains[a * OWN + k] = fma(u[a], v[k], gains[a * OWN + k]);
#endif
              }
            }
          }
        }
      }
    }
  }
  UNROLL for (uint a = 0u; a < EACH; a++) {
    const uint r = first + row_of(LANE, a);
    if (r >= end) continue;
    const ulong to = (ulong)split * rows + r;
    UNROLL for (uint k = 0u; k < OWN; k++)
      if (own + k < width) gathered[to * width + own + k] = gains[a * OWN + k];
    if (LANE % 16u == 0u && block == 0u) masses[to] = mass[row_of(LANE, a)];
  }
}

// The gradient of the points, (rows, width), from the partial sums of the splits.
KERNEL(gradient, INPUT(0, REAL, x), INPUT(1, REAL, gathered), INPUT(2, REAL, masses), INPUT(3, REAL, longest), OUTPUT(4, REAL, dx),
       VALUE(5, uint, rows), VALUE(6, uint, width), VALUE(7, uint, splits), VALUE(8, uint, bounds), VALUE(9, REAL, limit)) {
  SHARED(REAL, partial, WARPS);
  if (for_other_program(longest, bounds, limit, partial, LANE)) return;
  const ulong at = (ulong)GROUP * LANES + LANE, count = (ulong)rows * width;
  if (at >= count) return;
  REAL sum = 0, mass = 0;
  for (uint split = 0u; split < splits; split++) {
    sum += gathered[split * count + at];
    mass += masses[(ulong)split * rows + at / width];
  }
#if MEASURE == SQUARED
  sum = 2 * fma(mass, x[at], -sum);
#elif MEASURE == DIFFERENCES
  sum = 2 * fma(mass, x[at] - x[at % width], -sum);
#endif
  dx[at] = sum;
}
