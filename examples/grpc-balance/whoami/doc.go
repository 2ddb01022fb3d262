// Package whoami is the gRPC service of the example: it answers the name of the pod that serves
// the call. The *.pb.go files are generated:
//
//	protoc --go_out=. --go_opt=paths=source_relative \
//	       --go-grpc_out=. --go-grpc_opt=paths=source_relative whoami.proto
package whoami
