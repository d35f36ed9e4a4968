// Convolution over time as a product: the windows of convolution.rs on a device. x is (B, T, C), windows (B, L, K, C) with L = T - K + 1.

KERNEL(windows, INPUT(0, REAL, x), OUTPUT(1, REAL, out), VALUE(2, ulong, n), VALUE(3, uint, steps), VALUE(4, uint, channels), VALUE(5, uint, kern)) {
  const ulong i = (ulong)GROUP * LANES + LANE;
  if (i >= n) return;
  const uint window = kern * channels, length = steps + 1u - kern;
  const ulong row = i / window;
  out[i] = x[(row / length * steps + row % length) * channels + i % window];
}

// The gradient of x: what every window that a step is in says of it, in order.
KERNEL(windows_back, INPUT(0, REAL, g), OUTPUT(1, REAL, dx), VALUE(2, ulong, n), VALUE(3, uint, steps), VALUE(4, uint, channels),
       VALUE(5, uint, kern)) {
  const ulong i = (ulong)GROUP * LANES + LANE;
  if (i >= n) return;
  const uint length = steps + 1u - kern, c = (uint)(i % channels), t = (uint)(i / channels % steps);
  const ulong sample = i / channels / steps;
  REAL sum = 0;
  for (uint k = 0u; k < kern; k++)
    if (t >= k && t - k < length) sum += g[((sample * length + t - k) * kern + k) * channels + c];
  dx[i] = sum;
}
