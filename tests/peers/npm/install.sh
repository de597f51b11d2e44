#!/bin/bash
# Installs the npm clients of package-lock.json, and a Node that is new enough for them.
# Does nothing when exactly those are there.
set -eu
cd "$(dirname "$0")"
wanted=$(sha256sum package-lock.json | cut -d' ' -f1)

if [ "$(cat node_modules/.stamp 2>/dev/null)" = "$wanted" ]; then
  echo "npm clients are there"
  exit 0
fi

# Engine warnings come from the system's Node, which only installs; the clients run on the Node below.
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
echo "$wanted" >node_modules/.stamp
echo "installed npm clients, Node $(echo node_modules/node-linux-*/bin/node | { read -r node _; "$node" --version; })"
