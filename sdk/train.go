package sdk

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// train runs a training to its end, or until ctx is done, when it saves a checkpoint first. It reports progress as JSON and returns
// the result as JSON.
func train(ctx context.Context, n network, start *zoov1.TrainRequest_Start, event func([]byte)) ([]byte, error) {
	return nil, status.Error(codes.Unimplemented, "this build has no training engine")
}
