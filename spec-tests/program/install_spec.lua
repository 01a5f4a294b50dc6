-- SPDX-License-Identifier: MIT
-- make install: the program once and a link for each type, put in place so that a node that is
-- calling them meanwhile never notices.

local t = require "support"
local lfs = require "lfs"

local dest = "/run/spec/dest"
local bin = dest .. "/opt/cni/bin"

local function install(more)
  return t.run(("make -s install DESTDIR=%s BUILD=%s IMAGE=%s %s"):format(dest, t.build,
    t.read(t.build .. "/image.chosen"):sub(1, 1), more or ""),
    { timeout = 300 })
end

local function types()
  local names = {}
  for name in lfs.dir("plugins") do names[#names + 1] = name:match("^(.*)%.lua$") end
  return names
end

-- A sanitizer build cannot be told to make from here.
local function applies() return not os.getenv("ASAN_OPTIONS") end

after_each(function() t.run { "rm", "-rf", dest } end)

describe("make install", function()
  it("puts one program and a link for each type in place", function()
    if not applies() then return end
    local said = install()
    assert.is_truthy(said:find("^luacni %d[%d.]* is in " .. bin .. ", for bandwidth bridge [^\n]* vrf; and in [^\n]*\n$"), said)
    assert.equal("/opt/cni/bin/luacni", lfs.symlinkattributes(dest .. "/usr/local/sbin/luacni", "target"))
    local count = 0
    for name in lfs.dir(bin) do
      if name ~= "." and name ~= ".." then count = count + 1 end
    end
    assert.equal(#types() + 1, count)
    for _, name in ipairs(types()) do
      assert.equal("luacni", lfs.symlinkattributes(bin .. "/" .. name, "target"))
      local got = t.cni { verb = "VERSION", type = name, bin = bin }
      assert.is_table(got.json.supportedVersions)
    end
    assert.is_true(lfs.attributes(bin .. "/luacni", "size") <= 4 * 1024 * 1024)
    local size = tonumber(t.read("README.md"):match "one program of ([%d.]+) MB")
    assert.is_true(math.abs(size - lfs.attributes(bin .. "/luacni", "size") / 1e6) < 0.15, "README says another size")
    assert.equal("rwxr-xr-x", lfs.attributes(bin .. "/luacni", "permissions"))
  end)

  it("does so again with the same outcome, over other plugins, and elsewhere", function()
    if not applies() then return end
    t.write(bin .. "/bridge", "an older plugin")
    t.write(bin .. "/other", "somebody else's")
    install()
    install()
    assert.equal("luacni", lfs.symlinkattributes(bin .. "/bridge", "target"))
    assert.equal("somebody else's", t.read(bin .. "/other"))
    install("CNI_BIN=/usr/libexec/cni SBIN=/usr/sbin")
    assert.is_truthy(lfs.attributes(dest .. "/usr/libexec/cni/luacni"))
    assert.equal("/usr/libexec/cni/luacni", lfs.symlinkattributes(dest .. "/usr/sbin/luacni", "target"))
    -- What was put elsewhere stays.
    t.run(("make -s uninstall DESTDIR=%s CNI_BIN=/usr/libexec/cni SBIN=/usr/sbin"):format(dest))
    assert.is_nil(lfs.attributes(dest .. "/usr/libexec/cni/luacni") or lfs.symlinkattributes(dest .. "/usr/sbin/luacni"))
    assert.equal("luacni", lfs.symlinkattributes(bin .. "/bridge", "target"))
    assert.equal("/opt/cni/bin/luacni", lfs.symlinkattributes(dest .. "/usr/local/sbin/luacni", "target"))
  end)

  it("puts man pages beside it, of every command, type and verb; uninstall takes them back", function()
    if not applies() then return end
    t.needs("scdoc")
    install()
    local man = dest .. "/usr/local/share/man"
    local function page(name)
      local text = t.read(("%s/man%s/%s"):format(man, name:sub(-1), name))
      return text and text:gsub("\\&", ""):gsub("\\", "")
    end
    assert.truthy(page("luacni.8"):find('.TH "luacni" "8"', 1, true))
    for command in t.run({ t.build .. "/luacni", "--help" }):gmatch("\n  luacni (%l[%l-]*)") do
      assert.truthy(page("luacni.8"):find("usage: luacni " .. command, 1, true), command)
    end
    for _, name in ipairs(types()) do assert.truthy(page("luacni-conf.5"):find("\n.SS " .. name .. "\n", 1, true), name) end
    assert.truthy(page("luacni-conf.5"):find("isDefaultGateway", 1, true))
    for _, verb in ipairs { "handle:add_veth(want)", "req:once(name, decide)", "schema.record(fields)", "chained" } do
      assert.truthy(page("luacni-plugin.7"):find(verb, 1, true), verb)
    end
    t.run(("make -s uninstall DESTDIR=%s"):format(dest))
    assert.is_nil(page("luacni.8") or page("luacni-conf.5") or page("luacni-plugin.7"))
  end)

  it("puts units for systemd there, which call the program; uninstall takes them back", function()
    if not applies() then return end
    install "SBIN=/usr/sbin"
    local folder = dest .. "/usr/local/lib/systemd/system"
    assert.is_truthy(t.read(folder .. "/luacni-dhcp-renew.timer"):find "\nOnUnitActiveSec=1min\n")
    for name, words in pairs { ["luacni-repair"] = "repair", ["luacni-repair-watch"] = "repair %-%-watch",
      ["luacni-dhcp"] = "dhcp daemon", ["luacni-dhcp-renew"] = "dhcp renew",
      ["luacni-dhcp@"] = "dhcp serve", ["luacni-pool-refill"] = "pool refill" } do
      local text = t.read(("%s/%s.service"):format(folder, name))
      assert.is_truthy(text:find("\nExecStart=/usr/sbin/luacni " .. words .. "\n"), text)
      assert.is_nil(text:find("@", 1, true), text)
    end
    assert.is_truthy(t.read(folder .. "/luacni-dhcp.socket"):find "\nAccept=yes\n")
    t.write(folder .. "/other.service", "somebody else's")
    t.run(("make -s uninstall DESTDIR=%s SBIN=/usr/sbin"):format(dest))
    t.same({ ["other.service"] = "somebody else's" }, t.files(folder))
  end)

  it("does without man pages, and says so, where scdoc is not in PATH", function()
    if not applies() then return end
    -- All other programs are there; and no page that was made before.
    local build, path = "/run/spec/build", "/run/spec/path"
    t.run(("cp -a %s %s; rm -rf %s/man; mkdir %s; for d in $(echo $PATH | tr : ' '); do ln -s $d/* %s/ 2>/dev/null; done; "
      .. "rm -f %s/scdoc"):format(t.build, build, build, path, path, path))
    local said = t.run(("make -s install DESTDIR=%s BUILD=%s IMAGE=%s"):format(dest, build,
      t.read(t.build .. "/image.chosen"):sub(1, 1)), { env = { "PATH=" .. path }, timeout = 300 })
    t.run { "rm", "-rf", build, path }
    local first, rest = said:match "^([^\n]*)\n([^\n]*)\n$"
    assert.equal("without man pages: scdoc is not installed", first, said)
    assert.is_truthy(rest:find("is in " .. bin .. ", for bandwidth bridge ", 1, true), said)
    assert.equal("luacni", lfs.symlinkattributes(bin .. "/bridge", "target"))
    assert.is_nil(lfs.attributes(dest .. "/usr/local/share/man"))
    assert.is_table(t.cni { verb = "VERSION", type = "bridge", bin = bin }.json.supportedVersions)
  end)

  it("is taken back by make uninstall, with nobody else's", function()
    if not applies() then return end
    install()
    t.run(("ln -s luacni %s/wire; ln -sfn /elsewhere %s/static; rm %s/vrf"):format(bin, bin, bin))
    t.write(bin .. "/vrf", "somebody's")
    local said, left = t.run(("make -s uninstall DESTDIR=%s"):format(dest)), {}
    for _, path in ipairs { bin .. "/luacni", bin .. "/bridge", dest .. "/usr/local/sbin/luacni" } do
      assert.is_truthy(said:find("removed " .. path .. "\n", 1, true), said)
    end
    assert.is_nil(said:find("/static\n", 1, true) or said:find("/vrf\n", 1, true))
    for name in lfs.dir(bin) do left[#left + 1] = name:match("^%w+$") end
    table.sort(left)
    t.same({ "static", "vrf" }, left)
    assert.is_nil(lfs.symlinkattributes(dest .. "/usr/local/sbin/luacni"))
    assert.equal("", t.run(("make -s uninstall DESTDIR=%s"):format(dest)))
  end)

  it("works while plugins run", function()
    if not applies() then return end
    install()
    -- Whoever has the file open keeps the old one; no call in between fails.
    t.run(("(i=0; while [ ! -e %s/stop ]; do CNI_COMMAND=VERSION %s/bridge >/dev/null "
      .. "|| echo failed >>%s/log; i=$((i+1)); done; echo $i >%s/calls) & "
      .. "for i in 1 2 3 4 5; do make -s install DESTDIR=%s BUILD=%s >/dev/null || echo no >>%s/log; done; "
      .. "touch %s/stop; wait"):format(dest, bin, dest, dest, dest, t.build, dest, dest),
      { timeout = 300 })
    assert.is_nil(t.read(dest .. "/log"))
    assert.is_true(tonumber(t.read(dest .. "/calls")) > 5)
  end)
end)
