//go:build noasm || !amd64

package kernel

// haveAssembly says that the tables below are filled.
const haveAssembly = false

// Without assembly every table is empty, and every kernel its plain Go reference.
var (
	unaryKernels         [levels][classes][3][3]unaryFunc
	expKernels           [levels]unaryFunc
	addKernels           [levels][3]addFunc
	affineKernels        [levels][4][3]affineFunc
	scaleIntoKernels     [levels][3]affineFunc
	sumKernels           [levels][3]sumFunc
	downMaxKernels       [levels][3]downFunc
	downSumKernels       [levels][3]downFunc
	downKeysKernels      [levels]downFunc
	alongKeysKernels     [levels]alongFunc
	alongMaxKernels      [levels]alongFunc
	alongSumKernels      [levels]alongFunc
	depthwiseKernels     [levels][depthwiseShapes]depthwiseFunc
	depthwiseIntoKernels [levels][depthwiseShapes]depthwiseIntoFunc
	depthwiseAnyKernels  [levels]depthwiseAnyFunc
	gatherKernels        [levels][3][2]gatherFunc
	scatterKernels       [levels][3][2]scatterFunc
	prefetchKernels      [levels]prefetchFunc
	lrnKernels           [levels]lrnFunc
	normKernels          [levels][3]normFunc
	interleaveKernels    [levels][2]interleaveFunc
)
