// The mean over the steps of a sequence (see mean.rs). One lane for each element of the result.

// The weight of each step, m_t / max(sum of m, 1); one warp for each sample.
KERNEL(step_weights, INPUT(0, REAL, mask), OUTPUT(1, REAL, weights), VALUE(2, uint, batch), VALUE(3, uint, steps)) {
  const uint b = GROUP * (LANES / WARP) + LANE / WARP, lane = LANE % WARP;
  if (b >= batch) return;
  REAL sum = 0;
  for (uint t = lane; t < steps; t += WARP) sum += mask[(ulong)b * steps + t];
  sum = warp_sum(sum);
  const REAL total = sum > 1 ? sum : (REAL)1;
  for (uint t = lane; t < steps; t += WARP) weights[(ulong)b * steps + t] = mask[(ulong)b * steps + t] / total;
}

#if MASKED
#define STEP_WEIGHT(b, t) weights[(ulong)(b)*steps + (t)]
#else
#define STEP_WEIGHT(b, t) ((REAL)1 / (REAL)steps)
#endif

KERNEL(mean, INPUT(0, REAL, x), INPUT(1, REAL, weights), OUTPUT(2, REAL, y), VALUE(3, uint, count), VALUE(4, uint, steps), VALUE(5, uint, width)) {
  const uint i = GROUP * LANES + LANE;
  if (i >= count) return;
  const uint b = i / width;
  const ulong at = (ulong)b * steps * width + i % width;
  REAL sum = 0;
  // A masked step is not read: it may hold NaN.
  for (uint t = 0u; t < steps; t++)
    if (STEP_WEIGHT(b, t) != 0) sum = fma(STEP_WEIGHT(b, t), x[at + (ulong)t * width], sum);
  y[i] = sum;
}

KERNEL(backward, INPUT(0, REAL, g), INPUT(1, REAL, weights), OUTPUT(2, REAL, dx), VALUE(3, ulong, count), VALUE(4, uint, steps),
       VALUE(5, uint, width)) {
  const ulong i = (ulong)GROUP * LANES + LANE;
  if (i >= count) return;
  const ulong step = i / width;
  const uint b = (uint)(step / steps);
  dx[i] = g[(ulong)b * width + i % width] * STEP_WEIGHT(b, step % steps);
}
