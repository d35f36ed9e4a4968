// Adam and clipping over many tensors at once: adam.rs and clip.rs on a device.
//
// Gradients are packed into one flat table and the sums of their squares taken on the way, then comes the norm, then the
// update. A row of `table` is what a group does: which of a launch's tensors, where in it, where in the flat tables, how many.

// The tensor `slot` of sixteen.
#define CHOSEN(slot, x)                                                                                                           \
  (slot < 8u ? slot < 4u ? slot < 2u ? slot == 0u ? x##0 : x##1 : slot == 2u ? x##2 : x##3                                      \
                         : slot < 6u ? slot == 4u ? x##4 : x##5 : slot == 6u ? x##6 : x##7                                      \
   : slot < 12u ? slot < 10u ? slot == 8u ? x##8 : x##9 : slot == 10u ? x##10 : x##11                                           \
   : slot < 14u ? slot == 12u ? x##12 : x##13 : slot == 14u ? x##14 : x##15)

KERNEL(pack, INPUT(0, REAL, g0), INPUT(1, REAL, g1), INPUT(2, REAL, g2), INPUT(3, REAL, g3), INPUT(4, REAL, g4), INPUT(5, REAL, g5),
       INPUT(6, REAL, g6), INPUT(7, REAL, g7), INPUT(8, REAL, g8), INPUT(9, REAL, g9), INPUT(10, REAL, g10), INPUT(11, REAL, g11),
       INPUT(12, REAL, g12), INPUT(13, REAL, g13), INPUT(14, REAL, g14), INPUT(15, REAL, g15), INPUT(16, uint, table),
       OUTPUT(17, REAL, flat), OUTPUT(18, REAL, squares), VALUE(19, uint, first)) {
  SHARED(REAL, partial, LANES / WARP);
  const uint row = first + GROUP;
  const ulong at = 4 * (ulong)row;
  const uint slot = table[at], start = table[at + 1], to = table[at + 2], count = table[at + 3];
  GLOBAL(const REAL) g = CHOSEN(slot, g);
  REAL sum = 0;
  for (uint i = LANE; i < count; i += LANES) {
    const REAL v = g[start + i];
    flat[to + i] = v;
    sum = fma(v, v, sum);
  }
  sum = group_sum(sum, partial, LANE);
  if (LANE == 0u) squares[row] = sum;
}

// `clip`: the norm of all gradients, and what they are multiplied by.
KERNEL(gradient_norm, INPUT(0, REAL, squares), OUTPUT(1, REAL, clip), VALUE(2, uint, n), VALUE(3, REAL, limit)) {
  SHARED(REAL, partial, LANES / WARP);
  REAL sum = 0;
  for (uint i = LANE; i < n; i += LANES) sum += squares[i];
  sum = group_sum(sum, partial, LANE);
  if (LANE == 0u) {
    const REAL norm_ = sqrt(sum), factor = limit / (norm_ + (REAL)1e-6);
    clip[0] = norm_;
    clip[1] = factor < 1 ? factor : (REAL)1;
  }
}

// `rate` and `scale` have the means' corrections in them. Nothing changes where the norm is not finite.
KERNEL(update, INOUT(0, REAL, p0), INOUT(1, REAL, p1), INOUT(2, REAL, p2), INOUT(3, REAL, p3), INOUT(4, REAL, p4), INOUT(5, REAL, p5),
       INOUT(6, REAL, p6), INOUT(7, REAL, p7), INOUT(8, REAL, p8), INOUT(9, REAL, p9), INOUT(10, REAL, p10), INOUT(11, REAL, p11),
       INOUT(12, REAL, p12), INOUT(13, REAL, p13), INOUT(14, REAL, p14), INOUT(15, REAL, p15), INPUT(16, uint, table),
       INPUT(17, REAL, flat), INPUT(18, REAL, clip), INOUT(19, REAL, means), INOUT(20, REAL, mean_squares), VALUE(21, uint, first),
       VALUE(22, REAL, rate), VALUE(23, REAL, scale), VALUE(24, REAL, b1), VALUE(25, REAL, rest1), VALUE(26, REAL, b2),
       VALUE(27, REAL, rest2), VALUE(28, REAL, epsilon), VALUE(29, REAL, decay)) {
  const ulong at = 4 * (ulong)(first + GROUP);
  const uint slot = table[at], start = table[at + 1], to = table[at + 2], count = table[at + 3];
  GLOBAL(REAL) p = CHOSEN(slot, p);
  const REAL norm_ = clip[0], factor = clip[1];
  if (norm_ - norm_ != 0) return;
  for (uint i = LANE; i < count; i += LANES) {
    const REAL old = p[start + i], g = fma(decay, old, flat[to + i] * factor);
    const REAL m = fma(b1, means[to + i], rest1 * g), v = fma(b2, mean_squares[to + i], rest2 * g * g);
    means[to + i] = m;
    mean_squares[to + i] = v;
    p[start + i] = old - rate * m / fma(sqrt(v), scale, epsilon);
  }
}
