// Sums of kernel values over all pairs of rows, pairwise/sums.rs on a device: within a sample each pair once, the diagonal with its weight.

// The largest b with b (b + 1) / 2 <= t.
DEVICE uint triangular_root(uint t) {
  uint b = (uint)((sqrt((REAL)(8u * t + 1u)) - 1) * (REAL)0.5);
  while (b * (b + 1u) / 2u > t) b--;
  while ((b + 1u) * (b + 2u) / 2u <= t) b++;
  return b;
}

// Two groups a multiprocessor, where 128 registers are enough.
#if MEASURE == SQUARED && REAL_BITS == 32
#undef RESIDENT
#define RESIDENT 2
#endif

#if IN_PARTS
// The rows of all samples in parts, a group a tile.
KERNEL(split, INPUT(0, REAL, x), INPUT(1, uint, layout), OUTPUT(2, HALF, parts), VALUE(3, uint, width), VALUE(4, uint, samples)) {
  const uint i = last_start(layout, TILES, samples, GROUP);
  split_tile(x, layout[i] + (GROUP - layout[TILES + i]) * SIDE, layout[i + 1u], width, parts, GROUP, LANE);
}
#endif

// A group takes a tile of rows and up to `chain` tiles of columns. Within a sample, tile of columns c meets the tiles of rows 0..=c.
KERNEL(sums, INPUT(0, TABLE, x), INPUT(1, REAL, norms), INPUT(2, REAL, numbers), INPUT(3, uint, layout), INPUT(4, REAL, longest),
       OUTPUT(5, REAL, parts), VALUE(6, uint, width), VALUE(7, uint, samples), VALUE(8, uint, pairs), VALUE(9, uint, chain),
       VALUE(10, REAL, diagonal), VALUE(11, uint, bounds), VALUE(12, REAL, limit)) {
  PAIR_TABLES;
  SHARED(REAL, partial, WARPS * KERNELS);
  if (for_other_program(longest, bounds, limit, partial, LANE)) return;
  const uint pair = last_start(layout, TASKS, pairs, GROUP), task = GROUP - layout[TASKS + pair];
  const uint i = layout[PAIRED + 2u * pair], j = layout[PAIRED + 2u * pair + 1u];
  const uint start = layout[j], end = layout[i + 1u], second_end = layout[j + 1u];
  const uint columns = tiles_of(second_end - start), chunks = (columns + chain - 1u) / chain;
  const uint b = i == j ? triangular_root(task / chain) : task % chunks;
  const uint row = i == j ? task - chain * (b * (b + 1u) / 2u) : task / chunks;
  const uint first = layout[i] + row * SIDE, last = least(columns, (b + 1u) * chain);
  uint column = b * chain;
  if (i == j && column < row) column = row;
  REAL totals[LEAVES];
  UNROLL for (uint l = 0u; l < LEAVES; l++) totals[l] = 0;
  START_TILES(x, layout[TILES + i] + row, x, layout[TILES + j] + column, layout[TILES + j] + last);
  SERIAL for (; column < last; column++) {
    const uint second = start + column * SIDE;
    REAL u[OWN_ROWS * OWN_COLUMNS];
    UNROLL for (uint c = 0u; c < OWN_ROWS * OWN_COLUMNS; c++) u[c] = 0;
    TILE_PRODUCTS(x, first, end, x, second, second_end, width, u);
    make_features(norms, first, end, second, second_end, LANE, u);
    if (first != second && first + SIDE <= end && second + SIDE <= second_end) {
      // Every pair counts once.
      UNROLL for (uint c = 0u; c < OWN_ROWS * OWN_COLUMNS; c++) {
        UNROLL for (uint l = 0u; l < LEAVES; l++)
          totals[l] += value_of(FORM(l), DEGREE(l), u[c], numbers[3u * l + 1u], numbers[3u * l + 2u]);
      }
      continue;
    }
    // One row at a time, then the others move up: an unrolled loop would hold all rows in registers at once.
    SERIAL for (uint a = 0u; a < OWN_ROWS; a++) {
      const uint r = first + row_of(LANE, a);
      UNROLL for (uint d = 0u; d < OWN_COLUMNS; d++) {
        const uint c = second + column_of(LANE, d);
        REAL weight = r < end && c < second_end ? (REAL)1 : (REAL)0;
        if (first == second) weight *= r < c ? (REAL)1 : r == c ? diagonal : (REAL)0;
        UNROLL for (uint l = 0u; l < LEAVES; l++)
          totals[l] = fma(weight, value_of(FORM(l), DEGREE(l), u[d], numbers[3u * l + 1u], numbers[3u * l + 2u]), totals[l]);
      }
      UNROLL for (uint c = 0u; c < (OWN_ROWS - 1u) * OWN_COLUMNS; c++) u[c] = u[c + OWN_COLUMNS];
    }
  }
  UNROLL for (uint q = 0u; q < KERNELS; q++) {
    REAL sum = 0;
    UNROLL for (uint l = 0u; l < LEAVES; l++)
      if (OWNER(l) == q) sum = fma(numbers[3u * l], totals[l], sum);
    sum = warp_sum(sum);
    if (LANE % WARP == 0u) partial[LANE / WARP * KERNELS + q] = sum;
  }
  BARRIER();
  if (LANE < KERNELS) {
    REAL sum = 0;
    UNROLL for (uint w = 0u; w < WARPS; w++) sum += partial[w * KERNELS + LANE];
    parts[(ulong)GROUP * KERNELS + LANE] = sum;
  }
}

// The sums of every pair of samples, a warp each, then the values of the functionals; a group a kernel. `numbers` ends with the
// functionals, (functionals, pairs).
KERNEL(values, INPUT(0, REAL, parts), INPUT(1, REAL, numbers), INPUT(2, uint, layout), OUTPUT(3, REAL, sums), OUTPUT(4, REAL, results),
       VALUE(5, uint, samples), VALUE(6, uint, pairs), VALUE(7, uint, functionals), VALUE(8, REAL, lowest)) {
  const uint q = GROUP;
  for (uint pair = LANE / WARP; pair < pairs; pair += WARPS) {
    const uint last = layout[TASKS + pair + 1u];
    REAL sum = 0;
    for (uint task = layout[TASKS + pair] + LANE % WARP; task < last; task += WARP) sum += parts[(ulong)task * KERNELS + q];
    sum = warp_sum(sum);
    if (LANE % WARP == 0u) sums[(ulong)q * pairs + pair] = sum;
  }
  BARRIER_GLOBAL();
  for (uint f = LANE; f < functionals; f += LANES) {
    REAL value = 0;
    for (uint pair = 0u; pair < pairs; pair++)
      value = fma(numbers[3u * LEAVES + (ulong)f * pairs + pair], sums[(ulong)q * pairs + pair], value);
    results[q * functionals + f] = larger(value, lowest);
  }
}
