// The mean over the steps of a sequence: the loops of mean.rs on a device. A lane has one number of a sample's result.

// What each step counts for, m_t / max(sum of m, 1): a warp a sample.
KERNEL(shares, INPUT(0, REAL, mask), OUTPUT(1, REAL, share), VALUE(2, uint, batch), VALUE(3, uint, steps)) {
  const uint b = GROUP * (LANES / WARP) + LANE / WARP, lane = LANE % WARP;
  if (b >= batch) return;
  REAL sum = 0;
  for (uint t = lane; t < steps; t += WARP) sum += mask[(ulong)b * steps + t];
  sum = warp_sum(sum);
  const REAL most = sum > 1 ? sum : (REAL)1;
  for (uint t = lane; t < steps; t += WARP) share[(ulong)b * steps + t] = mask[(ulong)b * steps + t] / most;
}

#if MASKED
#define SHARE(b, t) share[(ulong)(b)*steps + (t)]
#else
#define SHARE(b, t) ((REAL)1 / (REAL)steps)
#endif

KERNEL(mean, INPUT(0, REAL, x), INPUT(1, REAL, share), OUTPUT(2, REAL, y), VALUE(3, uint, count), VALUE(4, uint, steps), VALUE(5, uint, width)) {
  const uint i = GROUP * LANES + LANE;
  if (i >= count) return;
  const uint b = i / width;
  const ulong at = (ulong)b * steps * width + i % width;
  REAL sum = 0;
  for (uint t = 0u; t < steps; t++) sum = fma(SHARE(b, t), x[at + (ulong)t * width], sum);
  y[i] = sum;
}

KERNEL(back, INPUT(0, REAL, g), INPUT(1, REAL, share), OUTPUT(2, REAL, dx), VALUE(3, ulong, count), VALUE(4, uint, steps),
       VALUE(5, uint, width)) {
  const ulong i = (ulong)GROUP * LANES + LANE;
  if (i >= count) return;
  const ulong step = i / width;
  const uint b = (uint)(step / steps);
  dx[i] = g[(ulong)b * width + i % width] * SHARE(b, step % steps);
}
