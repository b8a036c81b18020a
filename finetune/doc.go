// Package finetune trains classifiers: it fits a pretrained network, or one from random weights, to a folder of labelled images.
//
//	m := finetune.Model{Name: "resnet50", Build: build, Input: input, Weights: "resnet50.safetensors", Preprocess: transforms.ImageNet(256, 224)}
//	c := finetune.Defaults()
//	c.Data, c.Freeze = "photos", []string{"features"}
//	result, err := finetune.Run(ctx, m, c, "runs/photos", nil)
//
// # What a run is
//
// A Config says what to do; it is JSON, and each mistake in it is an error of one line. A run lives in a folder of its own:
//
//	config.json         what was asked for
//	last.safetensors    everything needed to go on: weights, optimiser, averages, position
//	best.safetensors    the weights with the best validation result so far
//	metrics.jsonl       a line an epoch
//	events.out.tfevents TensorBoard's file
//	model.safetensors   the result
//	report.html         curves, confusion matrix, the most confident mistakes
//
// # Invariants
//
// The same model, configuration, data, precision and number of threads give the same bits. All that is random is a function of
// Config.Seed and the position in the run (epoch, step, image), so a checkpoint needs no state of generators, and a run that was
// killed at any moment and resumed ends with the weights of one that was not. Files that a later run reads appear under their names
// complete, by rename; a failure to write leaves the older ones as they were.
//
// A run belongs to one goroutine; different runs are independent.
package finetune
