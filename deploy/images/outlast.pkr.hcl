# A Compute Engine image for SpotInstanceVM.spec.vmImage, where its family is written as outlast-node. In this directory:
#
#   packer init . && packer build -var project=my-project -var zone=us-central1-a \
#     -var kubernetes_apt='deb [signed-by=/etc/apt/keyrings/kubernetes.asc] URL /' -var kubernetes_key=URL \
#     -var nvidia_apt='deb [signed-by=/etc/apt/keyrings/nvidia.asc] URL /' -var nvidia_key=URL .
#
# Without nvidia_apt and nvidia_key the image has no driver: for machines without GPUs.
packer {
  required_plugins {
    googlecompute = {
      source  = "github.com/hashicorp/googlecompute"
      version = ">= 1.1"
    }
  }
}

variable "project" { type = string }
variable "zone" { type = string }
variable "kubernetes_apt" { type = string }
variable "kubernetes_key" { type = string }
variable "nvidia_apt" {
  type    = string
  default = ""
}
variable "nvidia_key" {
  type    = string
  default = ""
}

source "googlecompute" "outlast" {
  project_id          = var.project
  zone                = var.zone
  source_image_family = "debian-13"
  image_family        = "outlast-node"
  image_name          = "outlast-node-{{timestamp}}"
  machine_type        = "e2-standard-4"
  disk_size           = 50
  ssh_username        = "packer"
}

build {
  sources = ["source.googlecompute.outlast"]

  provisioner "shell" {
    script          = "provision.sh"
    execute_command = "sudo env {{ .Vars }} sh {{ .Path }}"
    environment_vars = [
      "KUBERNETES_APT=${var.kubernetes_apt}",
      "KUBERNETES_KEY=${var.kubernetes_key}",
      "NVIDIA_APT=${var.nvidia_apt}",
      "NVIDIA_KEY=${var.nvidia_key}",
    ]
  }
}
