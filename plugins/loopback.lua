-- SPDX-License-Identifier: MIT
--- Bring the sandbox's loopback interface up.
return {
  add = function(req)
    local lo = req.pod:set_link("lo", { up = true })
    if req.prev then return nil end
    return { interfaces = { lo }, ips = req.pod:addrs(lo) }
  end,
}
