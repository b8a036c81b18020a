package sdk

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// Attend implements zoov1.EngineServer: it answers calls of Infer that come through a bell until the host cancels it.
func (s *server) Attend(ctx context.Context, r *zoov1.AttendRequest) (*zoov1.AttendResponse, error) {
	data, err := s.shared(r.GetBell(), pluginrpc.BellSize)
	if err != nil {
		return nil, err
	}
	bell, err := pluginrpc.NewBell(data)
	if errors.Is(err, pluginrpc.ErrNoBell) {
		return nil, status.Error(codes.Unimplemented, err.Error())
	}
	if err != nil {
		return nil, invalid("%v", err)
	}
	bell.Attend(ctx, func(request []byte) (uint32, []byte) { return s.answer(ctx, request) })
	return nil, ctx.Err()
}

// answer makes the answer to a call that came through a bell, as a call of Infer through gRPC would be answered.
func (s *server) answer(ctx context.Context, request []byte) (code uint32, response []byte) {
	response, err := s.inferBytes(ctx, request)
	if err != nil {
		st := status.Convert(wireError(err))
		return uint32(st.Code()), []byte(st.Message())
	}
	return uint32(codes.OK), response
}

func (s *server) inferBytes(ctx context.Context, request []byte) (response []byte, err error) {
	defer s.recover("Infer through a bell", &err)
	var r zoov1.InferRequest
	if err := proto.Unmarshal(request, &r); err != nil {
		return nil, invalid("the request in the bell: %v", err)
	}
	answer, err := s.Infer(ctx, &r)
	if err != nil {
		return nil, err
	}
	if response, err = proto.Marshal(answer); err != nil {
		return nil, err
	}
	if len(response) > pluginrpc.MaxBellResponse {
		return nil, invalid("an answer of %d bytes does not fit the %d of a bell", len(response), pluginrpc.MaxBellResponse)
	}
	return response, nil
}
