package grad

import (
	"math"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// BatchNormSums adds what the pixels of dy and x contribute to the sums of batch norm's backward pass, per channel:
// sumDY += sum of dy and sumDYX += sum of dy*(x - mean). x is the input of the batch norm and mean the mean that the
// forward pass subtracted (the batch's in training, the running one where frozen).
// Then dbeta = sumDY and dgamma = sumDYX / sqrt(variance + eps).
func BatchNormSums(tier cpu.Tier, sumDY, sumDYX []float64, dy, x, mean []float32) {
	c := len(sumDY)
	if c == 0 {
		return
	}
	var a, b [columnBlock]float32
	pixels := len(dy) / c
	for p := 0; p < pixels; p += blockPixels {
		n := min(blockPixels, pixels-p)
		for c0 := 0; c0 < c; c0 += columnBlock {
			k := min(columnBlock, c-c0)
			s, sx := a[:k], b[:k]
			clear(s)
			clear(sx)
			pairPixels(tier, s, sx, dy[p*c+c0:], x[p*c+c0:], mean[c0:c0+k], c, n)
			for i := range s {
				sumDY[c0+i] += float64(s[i])
				sumDYX[c0+i] += float64(sx[i])
			}
		}
	}
}

// BatchNormFactors turns the sums of BatchNormSums over all count pixels of a batch into the factors of BatchNormData,
// for statistics that were taken of this batch: the gradient passes through mean and variance too.
func BatchNormFactors(fromDY, fromX, constant []float32, sumDY, sumDYX []float64, gamma, mean []float32, variance []float64, eps float64, count int) {
	for i := range fromDY {
		inverse := 1 / math.Sqrt(variance[i]+eps)
		g := float64(gamma[i]) * inverse
		// dx = g * (dy - sumDY/count - (x-mean) * inverse^2 * sumDYX/count)
		slope := -g * inverse * inverse * sumDYX[i] / float64(count)
		fromDY[i] = float32(g)
		fromX[i] = float32(slope)
		constant[i] = float32(-g*sumDY[i]/float64(count) - slope*float64(mean[i]))
	}
}

// BatchNormData stores dx = fromDY*dy + fromX*x + constant, each factor per channel. dx may be dy or x. With frozen
// statistics dx is gamma/sqrt(variance+eps)*dy alone: kernel.Affine.
func BatchNormData(tier cpu.Tier, dx, dy, x, fromDY, fromX, constant []float32) {
	c := len(fromDY)
	if c == 0 || len(dx) == 0 {
		return
	}
	fromX, constant = fromX[:c], constant[:c]
	dy, x = dy[:len(dx)], x[:len(dx)]
	if k := blendKernels[levelOf(tier)]; k != nil {
		k(floats(dx), floats(dy), floats(x), floats(fromDY), floats(fromX), floats(constant), len(dx)/c, c)
		return
	}
	for p := 0; p+c <= len(dx); p += c {
		for i := range c {
			dx[p+i] = fromDY[i]*dy[p+i] + fromX[i]*x[p+i] + constant[i]
		}
	}
}

// LayerNorm stores the gradient with respect to the input of a layer norm over the channels, len(gamma) a pixel, into dx
// (which may be dy), and adds to dgamma and dbeta, float32 partial sums of as many values. x is the input of the
// forward pass; mean and variance are computed again.
func LayerNorm(tier cpu.Tier, dx, dy, x, gamma, dgamma, dbeta []float32, eps float32) {
	c := len(gamma)
	if c == 0 || len(dx) == 0 {
		return
	}
	dgamma, dbeta = dgamma[:c], dbeta[:c]
	dy, x = dy[:len(dx)], x[:len(dx)]
	if k := layerNormKernels[levelOf(tier)]; k != nil {
		k(floats(dx), floats(dy), floats(x), floats(gamma), floats(dgamma), floats(dbeta), len(dx)/c, c, eps)
		return
	}
	for p := 0; p+c <= len(dx); p += c {
		layerNormPixel(dx[p:p+c], dy[p:p+c], x[p:p+c], gamma, dgamma, dbeta, eps)
	}
}

func layerNormPixel(dx, dy, x, gamma, dgamma, dbeta []float32, eps float32) {
	n := float64(len(x))
	var sum, squares, sumG, sumGX float64
	for _, v := range x {
		sum += float64(v)
	}
	mean := sum / n
	for _, v := range x {
		squares += (float64(v) - mean) * (float64(v) - mean)
	}
	inverse := 1 / math.Sqrt(squares/n+float64(eps))
	for i, v := range x {
		hat := (float64(v) - mean) * inverse
		g := float64(dy[i]) * float64(gamma[i])
		sumG += g
		sumGX += g * hat
		dgamma[i] += float32(float64(dy[i]) * hat)
		dbeta[i] += dy[i]
	}
	for i, v := range x {
		hat := (float64(v) - mean) * inverse
		dx[i] = float32(inverse * (float64(dy[i])*float64(gamma[i]) - sumG/n - hat*sumGX/n))
	}
}

// LRNScratch returns the length of the scratch of LRN for c channels and a window of size, in float32.
func LRNScratch(c, size int) int { return 2 * (c + size) }

// LRN stores the gradient with respect to the input of a local response normalisation (see kernel.LRN for the formula)
// over c channels into dx, which must not be dy or x.
func LRN(tier cpu.Tier, dx, dy, x []float32, c, size int, alpha, beta, k float32, scratch []float32) {
	before, after := size/2, (size-1)/2
	sums := scratch[:c]                    // k + alpha/size * sum of squares
	ratio := scratch[c : 2*c+before+after] // dy*y/sums, with zeros around it
	clear(ratio)
	a := float64(alpha) / float64(size)
	for p := 0; p+c <= len(dx); p += c {
		x, dy, dx := x[p:p+c], dy[p:p+c], dx[p:p+c]
		for i := range x {
			var sum float64
			for j := max(i-before, 0); j < min(i+after+1, c); j++ {
				sum += float64(x[j]) * float64(x[j])
			}
			s := float64(k) + a*sum
			sums[i] = float32(s)
			power := math.Pow(s, -float64(beta))
			dx[i] = float32(float64(dy[i]) * power)
			ratio[after+i] = float32(float64(dy[i]) * float64(x[i]) * power / s)
		}
		// x[j] is in the windows of outputs j-after .. j+before.
		for j := range x {
			var sum float64
			for _, v := range ratio[j : j+before+after+1] {
				sum += float64(v)
			}
			dx[j] -= float32(2 * a * float64(beta) * float64(x[j]) * sum)
		}
	}
}
