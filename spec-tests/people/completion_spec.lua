-- SPDX-License-Identifier: MIT
-- luacni completion: each shell completes what a command line can have at that place, and nothing else.

local t = require "support"

local folder = "/run/spec/complete"

-- The word at the end of each line is completed: by the line, what there is for it.
local shells = {}

local function one_by_one(ask)
  return function(lines)
    local answers = {}
    for _, line in ipairs(lines) do answers[line] = ask(line) end
    return answers
  end
end

local function sorted(text)
  local words = {}
  for word in text:gmatch "%S+" do words[#words + 1] = word end
  table.sort(words)
  return table.concat(words, " ")
end

local env = { "PATH=" .. folder .. "/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" .. folder, "TERM=dumb", "LC_ALL=C.UTF-8" }

local function run(words)
  local out, status, err = t.sh(words, { env = env, timeout = 120 })
  t.same({ 0, "" }, { status, err }, out)
  return out
end

local function bash(line)
  local words = {}
  for word in (line .. "\0"):gmatch "%S+" do words[#words + 1] = t.quote((word:gsub("%z", ""))) end
  return sorted(run { "bash", "--norc", "-c", ([[source %s/luacni.bash; cd %s/files; COMP_WORDS=(%s); COMP_CWORD=%d
    _luacni; printf '%%s\n' "${COMPREPLY[@]}"]]):format(folder, folder, table.concat(words, " "), #words - 1) })
end

local function fish(line)
  local out = run { "fish", "--no-config", "-c", ([[source %s/luacni.fish; cd %s/files; complete -C %s]])
    :format(folder, folder, t.quote(line)) }
  return sorted((out:gsub("\t[^\n]*", "")))
end

shells.bash, shells.fish = one_by_one(bash), one_by_one(fish)

-- An interactive one, in a terminal of its own, that is asked one line after the other. Its key ^T completes, and
-- writes what was given to compadd for that, between two bytes that nothing else writes: so each answer is whole.
-- (Where compadd is to fill arrays, -O, -A and -D, a completer only asks it what would match.)
local zsh_asked = [==[
cd FOLDER/files
PROMPT= fpath=(FOLDER $fpath)
autoload -U compinit; compinit -u -D
compadd() {
  local -a _hits
  [[ " ${@[1,(i)(-|--)]}" == *' '-[OAD]* ]] || { builtin compadd -A _hits "$@"; _given+=("$_hits[@]") }
  builtin compadd "$@"
}
complete() { local -a _given; _main_complete; print -rn -- $'\x02'"$_given"$'\x03' }
zle -C complete list-choices complete
bindkey '^T' complete
print -n $'\x03'
]==]
local zsh_drive = [[
zmodload zsh/zpty
zpty z env -i PATH=$PATH HOME=$HOME LC_ALL=C.UTF-8 TERM=dumb zsh -f -i
zpty -w z "source FOLDER/asked"
zpty -r z out $'*\x03*'
for line; do
  zpty -w -n z $line$'\x14'
  zpty -r z out $'*\x02*\x03*'
  out=${out#*$'\x02'}
  print -r -- $'\x01'$line$'\n'${out%%$'\x03'*}
  zpty -w -n z $'\x15'
done
zpty -d z
]]

function shells.zsh(lines)
  t.write(folder .. "/asked", (zsh_asked:gsub("FOLDER", folder)))
  t.write(folder .. "/drive", (zsh_drive:gsub("FOLDER", folder)))
  local shown, answers = run { "zsh", "-f", folder .. "/drive", table.unpack(lines) }, {}
  for line, answer in shown:gmatch "\1([^\n]*)\n([^\n]*)\n" do answers[line] = sorted(answer) end
  return answers
end

before_each(function()
  t.run(("mkdir -p %s/bin %s/files/folder; ln -sf %s/luacni %s/bin/luacni; touch %s/files/x.conflist")
    :format(folder, folder, t.build, folder, folder))
  t.write("/etc/cni/net.d/10-demo.conflist",
    t.json { cniVersion = "1.0.0", name = "demo", plugins = { { type = "loopback" } } })
  t.write("/etc/luacni/spec/wire_spec.lua", "")
  t.write("/var/lib/cni/results/demo-cnitool-1-eth0", t.json { kind = "cniCacheV1", containerId = "cnitool-1",
    ifName = "eth0", networkName = "demo", netns = "/run/netns/green", config = "e30=" })
  for shell, name in pairs { bash = "luacni.bash", zsh = "_luacni", fish = "luacni.fish" } do
    t.write(folder .. "/" .. name, t.run { t.build .. "/luacni", "completion", shell })
  end
end)
after_each(function()
  t.run("rm -rf /etc/cni/net.d /var/lib/cni/results " .. folder)
  t.cleanup()
end)

local wanted = {
  ["luacni d"] = "del dhcp doc doctor", ["luacni show br"] = "bridge", ["luacni new x --from lo"] = "loopback",
  ["luacni add d"] = "demo", ["luacni add demo b"] = "blue", ["luacni add -i eth1 demo r"] = "red",
  ["luacni add --c"] = "--cap-args --conf-dir", ["luacni link bridge vl"] = "vlan", ["luacni completion z"] = "zsh",
  ["luacni doc handle add_v"] = "add_veth", ["luacni doc brid"] = "bridge bridge-port",
  ["luacni doc link vxlan_gr"] = "vxlan_group vxlan_group6", ["luacni doc bridge mt"] = "mtu",
  ["luacni list --j"] = "--json", ["luacni explain demo gr"] = "green",
  ["luacni list demo cni"] = "cnitool-1", ["luacni run d"] = "demo", ["luacni validate x"] = "x.conflist",
  ["luacni test wi"] = "wire", ["luacni test x"] = "x.conflist",
  ["luacni run demo -- unshar"] = "unshare", ["luacni trace tre"] = "tree", ["luacni trace -v add demo b"] = "blue",
  ["luacni trace --to x add d"] = "demo", ["luacni trace --j"] = "--json", ["luacni trace -- unshar"] = "unshare",
}
-- What cannot be there is not offered.
local unwanted = { ["luacni show ptp v"] = "vlan", ["luacni add demo blue r"] = "red",
  ["luacni tree --dr"] = "--dry-run", ["luacni nix b"] = "bridge",
  ["luacni doc req add_v"] = "add_veth", ["luacni doc bridge mt mt"] = "mtu", ["luacni new mt"] = "mtu" }

describe("luacni completion", function()
  for _, shell in ipairs { "bash", "fish", "zsh" } do
    it("completes in " .. shell, function()
      if shell ~= "bash" then t.needs(shell) end
      for _, name in ipairs { "blue", "red" } do t.netns(name) end
      local lines = {}
      for _, list in ipairs { wanted, unwanted } do
        for line in pairs(list) do lines[#lines + 1] = line end
      end
      local answers = shells[shell](lines)
      for line, words in pairs(wanted) do
        assert.equal(words, (answers[line]:gsub("unshare unshare", "unshare")), line)
      end
      for line, word in pairs(unwanted) do
        assert.is_nil(answers[line]:find(word, 1, true), line .. ": " .. answers[line])
      end
    end)
  end

  it("knows every command and option of the help, and what stands for a word", function()
    local help = t.run { t.build .. "/luacni", "--help" }
    for _, name in ipairs { "luacni.bash", "_luacni", "luacni.fish" } do
      local text = t.read(folder .. "/" .. name)
      for command in help:gmatch "\n  luacni (%l[%l-]*)" do
        assert.is_truthy(text:find(command, 1, true), command)
        for option in t.run { t.build .. "/luacni", command, "--help" }:gmatch "\n  [-%a, ]*%-%-([%l-]+)" do
          assert.is_truthy(text:find(option, 1, true), name .. ": " .. command .. " --" .. option)
        end
      end
    end
    assert.equal("demo\n", t.run { t.build .. "/luacni", "completion", "--list", "NETWORK" })
    for words, pattern in pairs { ["completion"] = "usage: luacni completion", ["completion csh"] = "is not bash",
      ["completion --list TYP"] = 'did you mean "TYPE"?' } do
      local out, status, err = t.sh(t.build .. "/luacni " .. words)
      t.same({ "", 2 }, { out, status })
      assert.is_truthy(err:find(pattern, 1, true), err)
    end
  end)
end)
