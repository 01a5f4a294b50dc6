-- SPDX-License-Identifier: MIT
--- What is attached, for Prometheus: a file an attachment in the folder that node_exporter reads
-- (--collector.textfile.directory), for as long as there is the attachment. Behind all others in the chain.
--
--     { "type": "figures", "folder": "/var/lib/node_exporter" }

local write = [[printf 'cni_attached{network="%s",container="%s"} %s\n' "$2" "$3" "$(date +%s)" >"$1.new" &&
  mv "$1.new" "$1"]]

return {
  chained = true,
  add = function(req)
    local file = ("%s/cni_%s_%s.prom"):format(req.raw.folder, req.container_id, req.ifname)
    local function sh(script)
      return { program = "/bin/sh", args = { "-c", script, "sh", file, req.network, req.container_id } }
    end
    local call = sh(write)
    call.undo, call.check = sh [[rm -f "$1" "$1.new"]], sh [[test -e "$1"]]
    req:call(call)
  end,
}
