// Sums of scalars, and scalars gathered into one tensor, in one warp.

// sum_i w_i x_i of eight scalars; a weight of 0 leaves its scalar out, even an infinite one.
#define TERM(x, w) (w != 0 ? w * x[0] : (REAL)0)
KERNEL(weighted_sum, INPUT(0, REAL, x0), INPUT(1, REAL, x1), INPUT(2, REAL, x2), INPUT(3, REAL, x3), INPUT(4, REAL, x4),
       INPUT(5, REAL, x5), INPUT(6, REAL, x6), INPUT(7, REAL, x7), OUTPUT(8, REAL, sum), VALUE(9, REAL, w0), VALUE(10, REAL, w1),
       VALUE(11, REAL, w2), VALUE(12, REAL, w3), VALUE(13, REAL, w4), VALUE(14, REAL, w5), VALUE(15, REAL, w6), VALUE(16, REAL, w7)) {
  if (LANE == 0u)
    sum[0] = TERM(x0, w0) + TERM(x1, w1) + TERM(x2, w2) + TERM(x3, w3) + TERM(x4, w4) + TERM(x5, w5) + TERM(x6, w6) + TERM(x7, w7);
}

KERNEL(weighted_sum_backward, INPUT(0, REAL, gradient), OUTPUT(1, REAL, gradients), VALUE(2, REAL, w0), VALUE(3, REAL, w1), VALUE(4, REAL, w2),
       VALUE(5, REAL, w3), VALUE(6, REAL, w4), VALUE(7, REAL, w5), VALUE(8, REAL, w6), VALUE(9, REAL, w7)) {
  const REAL w = LANE == 0u ? w0 : LANE == 1u ? w1 : LANE == 2u ? w2 : LANE == 3u ? w3 : LANE == 4u ? w4 : LANE == 5u ? w5
                 : LANE == 6u ? w6 : w7;
  if (LANE < 8u) gradients[LANE] = w * gradient[0];
}

// all[first + i] = x_i for i < count.
KERNEL(stack, INPUT(0, REAL, x0), INPUT(1, REAL, x1), INPUT(2, REAL, x2), INPUT(3, REAL, x3), INPUT(4, REAL, x4), INPUT(5, REAL, x5),
       INPUT(6, REAL, x6), INPUT(7, REAL, x7), OUTPUT(8, REAL, all), VALUE(9, uint, first), VALUE(10, uint, count)) {
  const REAL x = LANE == 0u ? x0[0] : LANE == 1u ? x1[0] : LANE == 2u ? x2[0] : LANE == 3u ? x3[0] : LANE == 4u ? x4[0]
                 : LANE == 5u ? x5[0] : LANE == 6u ? x6[0] : x7[0];
  if (LANE < count) all[first + LANE] = x;
}
