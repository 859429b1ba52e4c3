//go:build tools

// Package lab pins the Go servers of the lab: `go build -mod=readonly` checks every module against go.sum.
package lab

import (
	_ "github.com/Shopify/toxiproxy/v2/cmd/server"
	_ "github.com/versity/versitygw/cmd/versitygw"
)
