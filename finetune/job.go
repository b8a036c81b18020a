package finetune

import "github.com/go-modelzoo/zoo/vision/transforms"

// Job is what a host sends to the plugin process that trains: a configuration, and what is done to images for the model. The rest of
// a Model the process has itself. With Bench steps are timed instead, and the answer is a StepTime.
type Job struct {
	Config     Config                `json:"config"`
	Preprocess transforms.Preprocess `json:"preprocess"`
	Bench      *Bench                `json:"bench,omitempty"`
}
