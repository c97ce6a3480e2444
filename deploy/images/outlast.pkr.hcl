# A Compute Engine image for SpotInstanceVM.spec.vmImage, whose family is then written as outlast-node. In this directory:
#
#   cp versions.pkrvars.hcl.example mine.pkrvars.hcl    # fill it in, and keep it: it says what the image is made of
#   packer init . && packer build -var-file=mine.pkrvars.hcl .
#
# Without the variables nvidia_… the image has no driver: for machines without GPUs. All other versions are at the head of
# provision.sh.
packer {
  required_plugins {
    googlecompute = {
      source  = "github.com/hashicorp/googlecompute"
      version = "= 1.1.6"
    }
  }
}

variable "project" { type = string }
variable "zone" { type = string }
variable "source_image" {
  type = string
  validation {
    condition     = can(regex("-v[0-9]{8}$", var.source_image))
    error_message = "Name one image of Debian 13, not a family: debian-13-trixie-vYYYYMMDD."
  }
}
variable "kubernetes_apt" { type = string }
variable "kubernetes_key" { type = string }
variable "kubernetes_key_sha256" { type = string }
variable "kubernetes_packages" { type = string }
variable "nvidia_apt" {
  type    = string
  default = ""
}
variable "nvidia_key" {
  type    = string
  default = ""
}
variable "nvidia_key_sha256" {
  type    = string
  default = ""
}
variable "nvidia_packages" {
  type    = string
  default = ""
}

source "googlecompute" "outlast" {
  project_id   = var.project
  zone         = var.zone
  source_image = var.source_image
  image_family = "outlast-node"
  image_name   = "outlast-node-{{timestamp}}"
  machine_type = "e2-standard-4"
  disk_size    = 50
  ssh_username = "packer"
}

build {
  sources = ["source.googlecompute.outlast"]

  provisioner "shell" {
    script          = "provision.sh"
    execute_command = "sudo env {{ .Vars }} sh {{ .Path }}"
    environment_vars = [
      "KUBERNETES_APT=${var.kubernetes_apt}",
      "KUBERNETES_KEY=${var.kubernetes_key}",
      "KUBERNETES_KEY_SHA256=${var.kubernetes_key_sha256}",
      "KUBERNETES_PACKAGES=${var.kubernetes_packages}",
      "NVIDIA_APT=${var.nvidia_apt}",
      "NVIDIA_KEY=${var.nvidia_key}",
      "NVIDIA_KEY_SHA256=${var.nvidia_key_sha256}",
      "NVIDIA_PACKAGES=${var.nvidia_packages}",
    ]
  }
}
