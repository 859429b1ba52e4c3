//go:build tools

// Package lab pins helm.
package lab

import _ "helm.sh/helm/v3/cmd/helm"
