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
