// Package adsload plays many sidecars to a control plane: delta-ADS clients over real gRPC, each on a
// TCP connection of its own, that subscribe, warm and acknowledge as Envoy does, and know nothing of
// a proxy but that.
//
// It is made to be cheap, because it runs on the machine that it measures: what a version of a
// resource refers to is read once for all clients, and a client holds one pointer for each resource.
package adsload
