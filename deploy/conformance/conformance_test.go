// Package conformance runs the official Gateway API suite against the cluster that KUBECONFIG names. Its flags are the suite's
// own; run.sh gives them.
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// All features of gateways are claimed. Meshes are another matter.
func TestConformance(t *testing.T) {
	options := conformance.DefaultOptions(t)
	options.EnableAllSupportedFeatures = true
	mesh := append(features.MeshCoreFeatures.UnsortedList(), features.MeshExtendedFeatures.UnsortedList()...)
	for _, feature := range mesh {
		options.ExemptFeatures = append(options.ExemptFeatures, feature.Name)
	}
	conformance.RunConformanceWithOptions(t, options)
}
