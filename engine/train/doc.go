// Package train turns a graph into spaGO operators, so that spaGO's autograd trains it on this project's kernels.
//
// Feature maps are float32 NHWC: a batch of n maps of shape (C, H, W) is a spaGO matrix of n·H·W rows and C columns.
// Parameters and their gradients keep PyTorch's layout, so that checkpoints and gradient norms are PyTorch's.
//
// A Trainer owns the values of the parameters. Accumulate runs a batch forward and backward and adds to the gradients;
// an Optimizer then changes the values. What depends on no trainable parameter is frozen: it runs as a
// fused inference plan (package infer), with its batch norms in evaluation mode, and has no backward pass.
//
// A GradCAM takes the gradient of a logit by a feature map instead.
//
// Invariants: spaGO runs the backward functions of a step in goroutines of its own, in no fixed order; here each holds the
// step's lock while it computes, and gradients that meet at one map are summed in the order of its consumers. A step's result
// thus depends on the values, the batch, the seed and the number of threads alone.
//
// Neither is safe for concurrent use.
package train
