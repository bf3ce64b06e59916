#!/bin/sh
# Enrols the pods of the StatefulSet hearth-pool at their gateway, and leaves each pod's key in a file of its name, for the Secret hearth-pool-keys:
#
#   HEARTH_ADMIN_KEY=sk-admin-… ./enrol.sh GATEWAY NAMESPACE COUNT FOLDER
#
# GATEWAY as this machine reaches it, such as https://localhost:8787 behind kubectl port-forward; CURL_CA_BUNDLE names who signed its certificate.
# Pods that have a file in FOLDER are enrolled already: run it again with a larger COUNT for more.
set -eu
gateway=$1 namespace=$2 count=$3 folder=$4
: "${HEARTH_ADMIN_KEY:?is the admin key of the gateway}"
umask 077
mkdir -p "$folder"
i=0
while [ "$i" -lt "$count" ]; do
  pod=hearth-pool-$i
  i=$((i + 1))
  [ -s "$folder/$pod" ] && continue
  # The key is read from stdin: arguments can be seen by all of the machine.
  answer=$(printf 'header = "authorization: Bearer %s"\n' "$HEARTH_ADMIN_KEY" |
    curl -sS --fail-with-body --config - -H 'content-type: application/json' "$gateway/v1/organization/pools" \
      -d "{\"id\":\"$pod\",\"allowed_origins\":[\"https://$pod.hearth-pool.$namespace.svc:9000\"]}") || {
    printf '%s is not enrolled: %s\n' "$pod" "$answer" >&2
    exit 1
  }
  printf '%s' "$answer" | sed -n 's/.*"key":\({[^}]*}\).*/\1/p' >"$folder/$pod"
  [ -s "$folder/$pod" ] || { rm -f "$folder/$pod"; printf '%s: no key in the answer\n' "$pod" >&2; exit 1; }
  printf '%s\n' "$pod"
done
