package host

import (
	"context"
	"time"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// ProfileRow is the time that a step of inference took.
type ProfileRow struct {
	Name     string // of the node, or the first of several that were fused
	Op       string
	Kernel   string // what ran, such as "conv 3x3 high"
	Duration time.Duration
	MACs     int64
}

// Profile runs a batch of zeros a few times and returns where the time went.
func (s *Session) Profile(ctx context.Context, n int, shape graph.Shape) ([]ProfileRow, error) {
	var rows []ProfileRow
	err := retry(ctx, func() error {
		pr, id, err := s.enter(ctx)
		if err != nil {
			return err
		}
		defer pr.release()
		if pr.engine == nil {
			return pr.unsupported("profile")
		}
		var r *zoov1.ProfileResponse
		err = pr.call(ctx, pr.task("profiling "+s.spec.Model, n), func(ctx context.Context) (err error) {
			r, err = pr.engine.Profile(ctx, &zoov1.ProfileRequest{Session: id, Images: int32(n), Shape: pluginrpc.ToShape(shape)})
			return err
		})
		if err != nil {
			return err
		}
		for _, m := range r.GetRows() {
			rows = append(rows, ProfileRow{line(m.GetName(), 500), line(m.GetOperator(), 100), line(m.GetKernel(), 200), time.Duration(m.GetNanoseconds()), m.GetMacs()})
		}
		return nil
	})
	return rows, err
}
