// Package echo is the gRPC service of the test application. The *.pb.go files are generated:
//
//	protoc --go_out=. --go_opt=paths=source_relative \
//	       --go-grpc_out=. --go-grpc_opt=paths=source_relative echo.proto
package echo
