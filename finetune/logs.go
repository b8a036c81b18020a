package finetune

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// logs are the files that grow with each epoch.
type logs struct {
	metrics *appendFile
	board   *tensorboard
}

// openLogs opens the logs where the state left them.
func (r *run) openLogs() error {
	s := &r.state
	if s.EventsFile == "" {
		entries, err := os.ReadDir(r.dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), PrefixEvents) { // of a start that failed
				if err := os.Remove(filepath.Join(r.dir, e.Name())); err != nil {
					return err
				}
			}
		}
		host, err := os.Hostname()
		if err != nil {
			host = "localhost"
		}
		s.EventsFile = fmt.Sprintf(PrefixEvents+"%d.%s", time.Now().Unix(), host)
	}
	var err error
	if r.logs.metrics, err = openAppend(filepath.Join(r.dir, FileMetrics), s.MetricsSize); err != nil {
		return err
	}
	r.logs.board, err = openTensorboard(filepath.Join(r.dir, s.EventsFile), s.EventsSize)
	return err
}

// log writes an epoch's results.
func (r *run) log(e *EpochResult) error {
	data, err := json.Marshal(e.percent())
	if err != nil {
		return err
	}
	if _, err := r.logs.metrics.Write(append(data, '\n')); err != nil {
		return err
	}
	scalars := []scalar{
		{"loss/train", e.Loss}, {"accuracy/train", e.Accuracy}, {"loss/val", e.Val.Loss}, {"accuracy/val", e.Val.Top1}, {"accuracy/val_top5", e.Val.Top5},
		{"f1/val", e.Val.F1}, {"learning_rate", e.LR}, {"images_per_second", e.ImagesPerSecond},
	}
	if e.Val.Kappa != nil {
		scalars = append(scalars, scalar{"kappa/val", *e.Val.Kappa})
	}
	if e.Val.AUC != nil {
		scalars = append(scalars, scalar{"auc/val", *e.Val.AUC})
	}
	return r.logs.board.write(time.Now(), e.Epoch, scalars)
}

// flushLogs makes the logs durable and notes their sizes, so that a checkpoint never knows of lines that are not there.
func (r *run) flushLogs(s *state) error {
	if err := errors.Join(r.logs.metrics.file.Sync(), r.logs.board.file.Sync()); err != nil {
		return r.diskAdvice(err)
	}
	s.MetricsSize, s.EventsSize = r.logs.metrics.size, r.logs.board.size
	s.Seconds = r.before + time.Since(r.began).Seconds()
	return nil
}

func (l *logs) close() error {
	var errs []error
	if l.metrics != nil {
		errs = append(errs, l.metrics.Close())
	}
	if l.board != nil {
		errs = append(errs, l.board.Close())
	}
	return errors.Join(errs...)
}
