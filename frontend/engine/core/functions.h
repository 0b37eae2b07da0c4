/// Elementary functions of exact numbers, to about 120 bits: what the x87's transcendental instructions round to 64.
#pragma once
#include "float.h"

/// The rest of an angle after whole quarter turns, in [-pi/4, pi/4], and the quarter (0 to 3). As in processors, pi has 66 bits here.
Exact reduce_angle(const Exact& angle, u32& quarter);
/// Of a reduced angle.
Exact sine(const Exact& angle);
Exact cosine(const Exact& angle);
Exact quotient(const Exact& a, const Exact& b);
Exact product(const Exact& a, const Exact& b);
/// 2^x - 1 for -1 <= x <= 1.
Exact power_of_two_less_one(const Exact& x);
/// log2(x), x > 0; log2(1 + x), x > -1.
Exact logarithm(const Exact& x);
Exact logarithm_plus_one(const Exact& x);
/// The angle of the point (x, y); either may be 0, not both.
Exact angle_of(const Exact& y, const Exact& x);
