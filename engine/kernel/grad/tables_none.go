//go:build noasm || !amd64

package grad

// haveAssembly says that the tables below are filled.
const haveAssembly = false

// Without assembly every table is empty, and every kernel its plain Go reference.
var (
	axpyKernels       [levels]axpyFunc
	fmaKernels        [levels]fmaFunc
	dotKernels        [levels]dotFunc
	sumKernels        [levels]sumFunc
	squaresKernels    [levels]squaresFunc
	pairKernels       [levels]pairFunc
	maxKernels        [levels]maxFunc
	whereKernels      [levels]whereFunc
	blendKernels      [levels]blendFunc
	layerNormKernels  [levels]layerNormFunc
	activationKernels [levels][9]activationFunc
	sgdKernels        [levels]sgdFunc
	adamKernels       [levels]adamFunc
)
