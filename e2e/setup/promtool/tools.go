//go:build tools

// Package lab pins promtool, which checks alert rules and their tests.
package lab

import _ "github.com/prometheus/prometheus/cmd/promtool"
