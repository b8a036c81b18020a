// Package poly holds the polynomials with which the kernels compute exp and erf.
//
// They were fitted by iteratively reweighted least squares on Chebyshev nodes, which approaches the minimax polynomial; the errors
// are those of the fit in float64. Coefficients are in the order of the powers.
package poly

// Exp2 is 2^f for |f| <= 1/2, relative error 7.5e-8.
var Exp2 = []float64{1.0000001192092896, 0.6931469440460205, 0.24022120237350464, 0.05550713464617729, 0.009675540961325169, 0.001327645150013268}

// Exp2Above is 2^f for 0 <= f <= 1, relative error 7.5e-8.
var Exp2Above = []float64{0.9999999403953552, 0.6931530833244324, 0.24015362560749054, 0.05582631379365921, 0.008989347144961357, 0.0018775737844407558}

// Phi is (Phi(x) - 1/2) / x for |x| <= PhiLimit in u = x^2 * 2/PhiLimit^2 - 1, where Phi is the distribution
// function of the normal distribution; the error of Phi is 8e-8, 1.5e-7 in float32. In u, not in x^2, because the
// powers of x^2 cancel away all digits.
var Phi = []float64{0.13465936481952667, -0.06712665408849716, 0.049643874168395996, -0.039768584072589874, 0.03206458315253258, -0.02499549090862274,
	0.018324336037039757, -0.012951897457242012, 0.009074169211089611, -0.005125181283801794, 0.001865512109361589, -0.0013212714111432433, 0.0014581214636564255, -0.000562820874620229}

// PhiLimit is where the distribution function is 0 or 1 to the precision of float32.
const PhiLimit = 5.25
