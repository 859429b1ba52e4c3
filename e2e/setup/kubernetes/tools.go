//go:build tools

// Package lab pins the control plane and kubectl. etcd is of the release that the API server's own client comes from.
//
// `k8s.io/kubernetes` asks for its staging modules as v0.0.0: the replacements in go.mod name the release of each.
package lab

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
