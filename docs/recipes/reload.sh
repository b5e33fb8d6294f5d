#!/bin/bash
# Reloads the services whose files are named on the standard input, each once, and only what the service itself accepts.
set -u
systemctl=${SYSTEMCTL:-systemctl}
declare -A due
while IFS= read -r -d '' path; do
	case $path in
	nginx/*) due[nginx]=1 ;;
	maxscale.cnf) due[maxscale]=1 ;;
	esac
done
status=0
for service in "${!due[@]}"; do
	if [[ $service == nginx ]] && ! "${NGINX:-nginx}" -t -q; then
		echo "nginx does not accept its configuration: not reloaded" >&2
		continue
	fi
	"$systemctl" reload-or-restart "$service" || status=75 # once more, after a pause
done
exit $status
