{{- define "tollgate.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/part-of: tollgate
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "tollgate.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- define "tollgate.image" -}}
{{ .root.Values.image.registry }}/{{ .program }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- /* What all containers have: no privileges, and nothing to write to. */ -}}
{{- define "tollgate.unprivileged" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "tollgate.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "tollgate.certgen" }}
metadata:
  labels: {{- include "tollgate.labels" (dict "root" . "name" "envoy-gateway-certgen") | nindent 4 }}
spec:
  serviceAccountName: envoy-gateway-certgen
  restartPolicy: OnFailure
  {{- include "tollgate.pullSecrets" . | nindent 2 }}
  containers:
  - name: certgen
    image: {{ include "tollgate.image" (dict "root" . "program" "controller") }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args: [certgen]
    env:
    - {name: ENVOY_GATEWAY_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: KUBERNETES_CLUSTER_DOMAIN, value: {{ .Values.clusterDomain }}}
    resources: {requests: {cpu: 10m, memory: 16Mi}}
    securityContext: {{- include "tollgate.unprivileged" . | nindent 6 }}
{{- end }}

{{- /* What is read. */ -}}
{{- define "tollgate.reads" }}
- apiGroups: [gateway.networking.k8s.io]
  resources: [gateways, httproutes, grpcroutes, tlsroutes, tcproutes, udproutes, referencegrants, backendtlspolicies, listenersets]
  verbs: [get, list, watch]
- apiGroups: [gateway.envoyproxy.io]
  resources: [backends, backendtrafficpolicies, securitypolicies, clienttrafficpolicies, envoyextensionpolicies, envoypatchpolicies, envoyproxies, httproutefilters]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [services, secrets, configmaps]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
- apiGroups: [multicluster.x-k8s.io]
  resources: [serviceimports]
  verbs: [get, list, watch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [gateways/status, httproutes/status, grpcroutes/status, tlsroutes/status, tcproutes/status, udproutes/status, backendtlspolicies/status, listenersets/status]
  verbs: [get, patch, update]
- apiGroups: [gateway.envoyproxy.io]
  resources: [backends/status, backendtrafficpolicies/status, securitypolicies/status, clienttrafficpolicies/status, envoyextensionpolicies/status, envoypatchpolicies/status, envoyproxies/status, httproutefilters/status]
  verbs: [get, patch, update]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- /* What is made: the objects of fleets. */ -}}
{{- define "tollgate.fleets" }}
- apiGroups: [""]
  resources: [serviceaccounts, configmaps, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments, daemonsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
