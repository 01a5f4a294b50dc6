-- SPDX-License-Identifier: MIT
-- luacni completion

local files = require "cni.record.files"
local job_of = require "cni.command.job"
local main = require "cni.command.main"
local say = require "cni.command.say"

-- What the words of a command line are, by the names that the help gives them: candidates are asked for
-- when they are wanted, so that they are those of the machine as it is. Each is given the word before.
local kinds = {}

function kinds.TYPE() return say.type_names() end

function kinds.NETWORK()
  local list = {}
  local networks = require("cni.runtime.config").all(job_of.folder {})
  for i, network in ipairs(networks) do list[i] = network.name end
  return list
end

function kinds.NETNS() return files.list "/run/netns" end

function kinds.ID()
  local list, seen = {}, {}
  for _, entry in ipairs((require("cni.command.attachments").all())) do
    if not seen[entry.container] then list[#list + 1] = entry.container end
    seen[entry.container] = true
  end
  return list
end

-- Who is attached: by the container's ID, and by the namespace's name.
function kinds.WHO()
  local list, seen = {}, {}
  for _, entry in ipairs((require("cni.command.attachments").all())) do
    local name = job_of.netns_name(entry.sandbox)
    for _, word in ipairs { entry.container, name:find "/" and "" or name } do
      if word ~= "" and word ~= "none" and not seen[word] then list[#list + 1] = word end
      seen[word] = true
    end
  end
  return list
end

kinds.CONF = kinds.NETWORK

function kinds.SPEC()
  local list = {}
  for _, name in ipairs(files.list "/etc/luacni/spec") do list[#list + 1] = name:match "^(.*)_spec%.lua$" end
  return list
end

-- What can be a file as well.
local or_file = { CONF = true, SPEC = true }

function kinds.WORD() return require("cni.command.pages").words() end

function kinds.ENTRY(word) return require("cni.command.pages").entries(word or "") end

function kinds.COMMAND() return main.names end

function kinds.VERB() return { "renew", "daemon", "list", "serve" } end

function kinds.SHELL() return { "bash", "zsh", "fish" } end

-- A command as the scripts need it.
local function describe(name)
  local command = require("cni.command." .. name)
  local entry = { name = name, about = command.about, words = {}, options = {}, runs = command.command,
    wraps = command.verbatim }
  local before = command.words:gsub(" %-%- .*$", "")
  for word, dots in before:gmatch "(%u+)%]*(%.*)" do
    if word ~= "OPTION" then
      entry.words[#entry.words + 1] = word
      entry.repeats = entry.repeats or dots ~= ""
    end
  end
  for key, option in pairs(command.options or {}) do
    table.insert(entry.options, { name = key, value = option.value, short = option.short,
      about = option.about })
  end
  table.insert(entry.options, { name = "help", about = "print the page of this command", short = "h" })
  table.sort(entry.options, function(a, b) return a.name < b.name end)
  return entry
end

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- A text is a list of lines that is added to.
local function add(lines, format, ...)
  lines[#lines + 1] = format:format(...)
end

local bash_frame = [[
# bash completion of luacni: written by `luacni completion bash`.
_luacni() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
	local words= options= values= repeats= runs= wraps= kind= word count=0 i
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		COMPREPLY=($(compgen -W '@COMMANDS@' -- "$cur"))
		return
	fi
	case ${COMP_WORDS[1]} in
@CASES@
	*) return ;;
	esac
	for ((i = 2; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [ "$word" = -- ] && [ -n "$runs" ]; then
			if declare -F _command_offset >/dev/null; then _command_offset $((i + 1))
			else COMPREPLY=($(compgen -c -- "$cur")); fi
			return
		fi
		case $word in
		-*) case " $values " in *" $word:"*) i=$((i + 1)) ;; esac ;;
		*)
			if [ -n "$wraps" ]; then
				COMP_WORDS=("${COMP_WORDS[0]}" "${COMP_WORDS[@]:i}") COMP_CWORD=$((COMP_CWORD - i + 1))
				_luacni
				return
			fi
			count=$((count + 1)) ;;
		esac
	done
	case " $values " in
	*" $prev:"*) kind=${values#*"$prev:"} kind=${kind%% *} ;;
	*)
		case $cur in -*) COMPREPLY=($(compgen -W "$options" -- "$cur")); return ;; esac
		set -- $words
		[ "$count" -lt $# ] || [ -z "$repeats" ] || count=$(($# - 1))
		shift "$count" 2>/dev/null || return
		kind=${1-} ;;
	esac
	case $kind in
	DIR) COMPREPLY=($(compgen -d -- "$cur")) ;;
	@ASKED@)
		words=$("${COMP_WORDS[0]}" completion --list "$kind" -- "$prev" 2>/dev/null)
		COMPREPLY=($(compgen -W "$words" -- "$cur")) ;;
	esac
	case $kind in @FILES@) COMPREPLY+=($(compgen -f -- "$cur")) ;; esac
}
complete -F _luacni luacni]]

local function bash(commands, asked)
  local cases, names, with_files = {}, { "--help", "--version" }, {}
  for kind in pairs(or_file) do with_files[#with_files + 1] = kind end
  for i, command in ipairs(commands) do
    local options, values = {}, {}
    for _, option in ipairs(command.options) do
      options[#options + 1] = "--" .. option.name
      local value = option.value
      if value then values[#values + 1] = ("--%s:%s"):format(option.name, value) end
      if value and option.short then values[#values + 1] = ("-%s:%s"):format(option.short, value) end
    end
    names[#names + 1] = command.name
    cases[i] = ("\t%s) words='%s' options='%s' values='%s' repeats=%s runs=%s wraps=%s ;;")
      :format(command.name,
      table.concat(command.words, " "), table.concat(options, " "), table.concat(values, " "),
      command.repeats and "1" or "", command.runs and "1" or "", command.wraps and "1" or "")
  end
  local parts = { COMMANDS = table.concat(names, " "), CASES = table.concat(cases, "\n"),
    ASKED = table.concat(asked, " | "), FILES = table.concat(with_files, " | ") }
  return { (bash_frame:gsub("@(%u+)@", parts)) }
end

local function zsh(commands)
  local lines = { "#compdef luacni", "# zsh completion of luacni: written by `luacni completion zsh`.",
    "_luacni_list() {", "  local -a found",
    '  found=(${(f)"$(luacni completion --list $@[-1] -- $words[CURRENT-1] 2>/dev/null)"})',
    '  compadd "$@[1,-2]" -a found', "}",
    "_luacni_file() { _luacni_list \"$@\"; _files }", "_luacni() {", "  local -a verbs", "  verbs=(" }
  local function action(kind)
    if kind == "DIR" then return "_files -/" end
    return kinds[kind] and (or_file[kind] and "_luacni_file " or "_luacni_list ") .. kind or " "
  end
  -- In a specification these have a meaning.
  local function plain(text) return (text:gsub("[%[%]:\\]", "\\%0")) end
  for _, command in ipairs(commands) do add(lines, "    %s", quote(command.name .. ":" .. command.about)) end
  add(lines, "  )")
  add(lines, "  if (( CURRENT == 2 )); then")
  add(lines, "    _describe command verbs; compadd -- --help --version; return")
  add(lines, "  fi")
  add(lines, "  local verb=$words[2]")
  add(lines, "  shift words; (( CURRENT-- ))")
  add(lines, "  case $verb in")
  for _, command in ipairs(commands) do
    add(lines, "  %s)", command.name)
    if command.runs then
      add(lines, "    local dashes=--; local behind=${words[(ie)$dashes]}")
      add(lines, "    if (( behind < CURRENT )); then")
      add(lines, "      shift $behind words; (( CURRENT -= behind )); _normal; return")
      add(lines, "    fi")
    end
    add(lines, "    _arguments \\")
    for _, option in ipairs(command.options) do
      local tail = ("[%s]%s"):format(plain(option.about),
        option.value and (":%s:%s"):format(option.value, action(option.value)) or "")
      add(lines, "    %s \\", quote(("--%s%s%s"):format(option.name, option.value and "=" or "", tail)))
      if option.short then add(lines, "    %s \\", quote("-" .. option.short .. tail)) end
    end
    if command.wraps then
      add(lines, "    '*:::word:{words=(luacni $words); (( CURRENT++ )); _luacni}' \\")
    end
    for i, word in ipairs(command.wraps and {} or command.words) do
      local place = i == #command.words and command.repeats and "*" or tostring(i)
      add(lines, "    %s \\", quote(("%s:%s:%s"):format(place, word, action(word))))
    end
    add(lines, "    ;;")
  end
  add(lines, "  esac")
  add(lines, "}")
  add(lines, "_luacni \"$@\"")
  return lines
end

local fish_frame = [[
# fish completion of luacni: written by `luacni completion fish`.
# Whether the word that is being typed is a command's N-th: COMMAND FROM TO [OPTION-WITH-A-VALUE...]
function __luacni_at
	set -l words (commandline -opc)
	test (count $words) -ge 2; or return 1
	set -l verb 2
	@WRAPS@
	test "$words[$verb]" = "$argv[1]"; or return 1
	set -l count 1
	set -l skip 0
	for word in $words[(math $verb + 1)..-1]
		if test $skip -eq 1
			set skip 0
		else if contains -- $word $argv[4..-1]
			set skip 1
		else if not string match -q -- '-*' $word
			set count (math $count + 1)
		end
	end
	test $count -ge $argv[2] -a $count -le $argv[3]
end
# The command behind --, as the shell completes it.
function __luacni_behind
	set -l words (commandline -opc) (commandline -ct)
	set -l at (contains -i -- -- $words); or return
	complete -C (string join ' ' -- $words[(math $at + 1)..-1])
end
function __luacni_first
	test (count (commandline -opc)) -eq 1
end
complete -c luacni -f
complete -c luacni -n __luacni_first -l help -d 'print what there is'
complete -c luacni -n __luacni_first -l version -d 'print the version']]

-- Behind a command that has another one behind it, that one is meant. Its options are ours to skip.
local function fish_wraps(commands)
  for _, command in ipairs(commands) do
    local valued = {}
    for _, option in ipairs(command.options) do
      if option.value then valued[#valued + 1] = "--" .. option.name end
    end
    if command.wraps then
      return ([[if test "$words[2]" = %s
		set -l at 3
		while string match -q -- '-*' "$words[$at]"
			contains -- $words[$at] %s; and set at (math $at + 1)
			set at (math $at + 1)
		end
		test $at -le (count $words); and set verb $at
	end]]):format(command.name, table.concat(valued, " "))
    end
  end
end

local function fish(commands)
  local lines = { (fish_frame:gsub("@WRAPS@", function() return fish_wraps(commands) end)) }
  local function asked(kind)
    if kind == "DIR" then return "(__fish_complete_directories (commandline -ct))" end
    local ask = "(luacni completion --list %s -- (commandline -opc)[-1] 2>/dev/null)"
    return kinds[kind] and ask:format(kind) or ""
  end
  local function plain(text) return "'" .. text:gsub("[\\']", "\\%0") .. "'" end
  for _, command in ipairs(commands) do
    local when = plain("__fish_seen_subcommand_from " .. command.name)
    add(lines, "complete -c luacni -n __luacni_first -a %s -d %s", command.name, plain(command.about))
    local valued = {}
    if command.runs then add(lines, "complete -c luacni -n %s -a '(__luacni_behind)'", when) end
    for _, option in ipairs(command.options) do
      add(lines, "complete -c luacni -n %s -l %s%s%s -d %s", when, option.name,
        option.short and " -s " .. option.short or "",
        option.value and " -x -a " .. plain(asked(option.value)) or "", plain(option.about))
      if option.value then valued[#valued + 1] = "--" .. option.name end
      if option.value and option.short then valued[#valued + 1] = "-" .. option.short end
    end
    for i, word in ipairs(command.words) do
      local last = i == #command.words and command.repeats and not command.wraps and 99 or i
      if kinds[word] then
        local place = ("__luacni_at %s %d %d %s"):format(command.name, i, last, table.concat(valued, " "))
        add(lines, "complete -c luacni -n %s%s -a %s", plain(place), or_file[word] and " -F" or "",
          plain(asked(word)))
      end
    end
  end
  return lines
end

local shells = { bash = bash, zsh = zsh, fish = fish }

return {
  words = "SHELL",
  about = "print a script that completes luacni's words in a shell",
  text = "SHELL is bash, zsh or fish. Commands, options, types, networks, namespaces and containers are " ..
    "completed, and what `luacni doc` can be asked; they are asked for as they are then.",
  least = 0, most = 1,
  options = {
    list = { value = "KIND", about = "print what can stand for a word of the help, as the scripts ask" },
  },
  examples = {
    "luacni completion bash >/etc/bash_completion.d/luacni",
    "luacni completion zsh >/usr/local/share/zsh/site-functions/_luacni",
    "luacni completion fish >/etc/fish/completions/luacni.fish",
  },
  run = function(words, options)
    if options.list then
      local ask = kinds[options.list]
      if not ask then
        local known = {}
        for kind in pairs(kinds) do known[#known + 1] = kind end
        say.usage(("completion: nothing is known of %q"):format(options.list), options.list, known)
      end
      local list = ask(words[1])
      table.sort(list)
      if list[1] then say.lines(list) end
      return
    end
    local write = shells[words[1]]
    if not write then say.usage(words[1] and ("completion: %q is not bash, zsh or fish"):format(words[1])
      or "usage: luacni completion SHELL") end
    local commands, asked = {}, {}
    for i, name in ipairs(main.names) do commands[i] = describe(name) end
    for kind in pairs(kinds) do asked[#asked + 1] = kind end
    table.sort(asked)
    say.lines(write(commands, asked))
  end,
}
