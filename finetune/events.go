package finetune

import "time"

// Event is what a run tells as it goes. The fields that a Kind does not name are zero.
type Event struct {
	Kind Kind      `json:"kind"`
	Time time.Time `json:"time"`
	// Epoch counts from 1 and Epochs is how many there will be; Step counts the optimiser's steps of the whole run from 1.
	Epoch  int `json:"epoch,omitempty"`
	Epochs int `json:"epochs,omitempty"`
	Step   int `json:"step,omitempty"`
	Steps  int `json:"steps,omitempty"`
	// Loss and Accuracy are means over the training images of the epoch so far.
	Loss     float64 `json:"loss,omitempty"`
	Accuracy float64 `json:"accuracy,omitempty"`
	LR       float64 `json:"lr,omitempty"`
	// Done and Total count images: of the epoch, or of the features to be computed.
	Done  int `json:"done,omitempty"`
	Total int `json:"total,omitempty"`
	// ImagesPerSecond is over the epoch so far, and Remaining the seconds to the end of the run at this rate.
	ImagesPerSecond float64 `json:"images_per_s,omitempty"`
	Remaining       float64 `json:"remaining,omitempty"`
	// Metrics are those of the validation images.
	Metrics *Metrics `json:"metrics,omitempty"`
	// Best says that this is the best epoch so far.
	Best bool   `json:"best,omitempty"`
	Text string `json:"text,omitempty"`
	Path string `json:"path,omitempty"`
}

// Kind tells events apart.
type Kind string

// Kinds of events.
const (
	KindNote       Kind = "note"       // Text for people: what was chosen, and why
	KindFeatures   Kind = "features"   // Done of Total images' features are computed
	KindStep       Kind = "step"       // about four a second: Epoch, Step, Loss, Accuracy, LR, Done, Total, ImagesPerSecond, Remaining
	KindEpoch      Kind = "epoch"      // an epoch is over: Loss, Accuracy, LR, Done, Total, Metrics, Best, ImagesPerSecond
	KindCheckpoint Kind = "checkpoint" // Path was saved
	KindDone       Kind = "done"       // Path is the result, Metrics those of it
)
